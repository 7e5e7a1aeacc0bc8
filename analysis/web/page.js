"use strict";

// The number at the start of a text, such as "52.1", "+3.2 points (1.0 to 5.4)" or "4,096"; NaN if there is none.
const numberOf = (text) => {
  const found = /^([+−-]?\d[\d,]*(?:\.\d+)?)(?=\s|$)/.exec(text);
  return found ? Number(found[1].replaceAll(",", "").replace("−", "-")) : NaN;
};

const textOf = (row, column) => {
  const text = row.cells[column].innerText.trim();
  return text === "–" ? "" : text;
};

// Rows with nothing in the column come last in either order.
const sorted = (rows, column, sign) => {
  const texts = new Map(rows.map((row) => [row, textOf(row, column)]));
  const numeric = [...texts.values()].every((text) => !text || !Number.isNaN(numberOf(text)));
  const compare = numeric
    ? (a, b) => numberOf(a) - numberOf(b)
    : (a, b) => a.localeCompare(b, "en", { numeric: true });
  return [...rows].sort((one, other) => {
    const [a, b] = [texts.get(one), texts.get(other)];
    return a && b ? sign * compare(a, b) : Boolean(b) - Boolean(a);
  });
};

const sortBy = (table, header, original) => {
  const next = { none: "ascending", ascending: "descending", descending: "none" };
  const order = next[header.getAttribute("aria-sort")];
  for (const other of header.parentElement.cells) other.setAttribute("aria-sort", "none");
  header.setAttribute("aria-sort", order);
  const sign = { none: 0, ascending: 1, descending: -1 }[order];
  table.tBodies[0].append(...(sign ? sorted(original, header.cellIndex, sign) : original));
};

for (const table of document.querySelectorAll("table")) {
  const original = [...table.tBodies[0].rows];
  for (const header of table.tHead.rows[0].cells) {
    const button = document.createElement("button");
    button.type = "button";
    button.title = "Sort by this column";
    button.append(...header.childNodes);
    header.append(button);
    header.setAttribute("aria-sort", "none");
    button.addEventListener("click", () => sortBy(table, header, original));
  }
}

// A region that scrolls can be reached and scrolled with the keyboard; the Tab key skips one that does not.
const markScrolling = () => {
  for (const region of document.querySelectorAll(".table, .picture")) {
    if (region.scrollWidth > region.clientWidth) region.tabIndex = 0;
    else region.removeAttribute("tabindex");
  }
};
addEventListener("resize", markScrolling);
addEventListener("load", markScrolling);

// Notes and claims' tests are always printed; lists of runs are printed only if they are unfolded.
let folded = [];
addEventListener("beforeprint", () => {
  folded = [...document.querySelectorAll("details:not([open], .runs, .curves)")];
  for (const details of folded) details.open = true;
});
addEventListener("afterprint", () => {
  for (const details of folded) details.open = false;
});
