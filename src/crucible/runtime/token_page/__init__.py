"""What does an inspection look like as a page? One HTML file that needs nothing else and asks for nothing."""

from crucible.runtime.token_page.page import page as page

__all__ = ["page"]
