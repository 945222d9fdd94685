"""One HTML file that holds a network, runs it in the browser and shows every layer.

Nothing here needs torch or numpy: a model file goes into the page as it is, and the page's own
JavaScript reads it. `export/html.py` writes the page to a file and compares it with its source;
a server may hand out `build_page()` as it is, with `content_security_policy()` as a header.
"""

from lenet.page.build import PageDigits, TrainingDigits, build_page, content_security_policy

__all__ = ["PageDigits", "TrainingDigits", "build_page", "content_security_policy"]
