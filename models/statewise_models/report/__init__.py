"""All about a version on one page of HTML that needs nothing else: `contents` says what is told, `page` how it looks.

The page lies beside the model, in the version's folder, and is written with it or not at all (`export`).
"""

from statewise_models.report.contents import Origin, report
from statewise_models.report.page import Section

__all__ = ["Origin", "Section", "report"]
