"""The paper's numbers are whole and say what they do not hold."""

import pytest

from analysis import paper


def test_figure_5_is_whole_and_its_averages_are_the_rows_means():
    table = paper.table("fig5_augmentation_grid")
    assert table.shape == (7, 8)
    assert list(table.index) == list(table.columns[:-1])
    difference = table["Average"] - table.drop(columns="Average").mean(axis=1)
    # A mean of cells within 0.05 of what was measured is within 0.05 of it, and so is the average.
    assert difference.abs().max() <= 0.1


def test_best_pair_of_figure_5_is_the_one_in_the_text():
    cells = paper.table("fig5_augmentation_grid").drop(columns="Average").stack()
    assert cells.idxmax() == ("Crop", "Color")
    assert cells.max() == 56.3


def test_what_is_not_published_is_missing():
    heads = paper.table("fig8_projection_head")
    assert heads.loc["None"].isna().sum() == 6
    assert heads.at["None", 2048] == 50.2
    assert paper.table("figB1_top5_batch_epochs").isna().all(axis=None)


def test_every_entry_says_how_sure_it_is():
    flags = set(paper.entries()["_meta"]["flags"])
    for key, entry in paper.entries().items():
        if not key.startswith("_"):
            assert entry["evidence"]["flag"] in flags, key


def test_an_unknown_key_names_the_nearest():
    with pytest.raises(KeyError, match="did you mean fig5_augmentation_grid"):
        paper.table("fig5_augmentation_gird")
