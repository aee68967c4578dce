"""Headless Chromium by Selenium, for what is measured, drawn or tested in a browser."""

import shutil

MISSING = "Selenium, chromium or chromedriver is not installed (Debian: apt-get install chromium chromium-driver)"


def chromium(*arguments: str):
    """Start Chromium with further arguments, logging its console and its requests; None if it is missing."""
    try:
        from selenium import webdriver
    except ImportError:
        return None
    browser, driver = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
    if not (browser and driver):
        return None
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1280,900", *arguments):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    return webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
