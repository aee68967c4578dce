"""Pages in the browser of the tests."""

from pathlib import Path


def load(browser, page: Path) -> None:
    """Show a page, and wait until its scripts have run: on a busy machine the driver can return before."""
    from selenium.webdriver.support.wait import WebDriverWait

    browser.get(page.as_uri())
    WebDriverWait(browser, 30).until(lambda _: browser.execute_script("return document.readyState") == "complete")
