# The README's two commands on a fresh machine:
#   docker build -t simclr_ablate .
#   docker run --rm -v "$PWD/reports:/simclr_ablate/reports" simclr_ablate make reproduce
#   docker run --rm simclr_ablate make test
FROM python:3.11-slim

# A C compiler is for torch.compile and Triton; git, for the commit that a run is made at.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends make git gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /simclr_ablate
COPY . .
RUN make .venv/.installed-test
ENV PATH="/simclr_ablate/.venv/bin:$PATH"

CMD ["make", "reproduce"]
