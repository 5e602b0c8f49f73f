"""Write docs/verdicts.md and a page for each paper from the stored verdicts (`make pages`)."""

from __future__ import annotations

from stored_verdicts import FOLDER, ROOT
from verdict_overview import moved_verdicts, overview, redrawn
from verdict_paper import paper_page
from verdict_text import outdated

from noisescale.claims import PAPERS


def main() -> None:
    """Write the pages, and print what a maintainer must look at."""
    (ROOT / "docs" / "verdicts.md").write_text(overview(), encoding="utf-8")
    for paper in PAPERS:
        (FOLDER / f"{paper}.md").write_text(paper_page(paper), encoding="utf-8")
    print("\n".join([*moved_verdicts(), *outdated(), *redrawn()]))


if __name__ == "__main__":
    main()
