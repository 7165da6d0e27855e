"""Whether a page can be read, computed from what the browser has rendered."""

from __future__ import annotations

from base64 import b64encode
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Page

LEAST_CONTRAST = 4.5
"""What WCAG asks of texts, level AA."""

CONTRASTS = """() => {
  const parse = (text) => { const [r, g, b, a = 1] = text.match(/[\\d.]+/g).map(Number); return [r, g, b, a]; };
  const over = (top, under) => top.slice(0, 3).map((c, i) => c * top[3] + under[i] * (1 - top[3]));
  const linear = (c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
  const light = (rgb) => rgb.reduce((sum, c, i) => sum + linear(c / 255) * [0.2126, 0.7152, 0.0722][i], 0);
  const own = (element) => parse(getComputedStyle(element).backgroundColor);
  const ground = (element) => (element === null ? [255, 255, 255] : over(own(element), ground(element.parentElement)));
  const found = [];
  for (const element of document.querySelectorAll("body *")) {
    // The text of the editor is what lies behind it.
    if (!element.checkVisibility() || element.id === "sql" || element.matches(".skip, .unseen, :disabled")) continue;
    const text = [...element.childNodes].filter((node) => node.nodeType === 3).map((node) => node.textContent).join("").trim();
    if (!text) continue;
    const [fore, back] = [parse(getComputedStyle(element).color), ground(element)];
    const [one, two] = [light(over(fore, back)), light(back)].sort((a, b) => b - a);
    found.push([(one + 0.05) / (two + 0.05), element.className || element.tagName, text.slice(0, 40)]);
  }
  return found;
}"""
"""The contrast of every text on the page."""

OVERFLOWS = """() => [...document.querySelectorAll("body *")].filter((element) => {
  if (!element.checkVisibility() || element.matches(".unseen, .skip")) return false;
  if (element.closest(".rows, .field, pre, .sheet, .query-sql")) return false;
  const box = element.getBoundingClientRect();
  const isCut = element.scrollWidth > element.clientWidth + 1 && getComputedStyle(element).display !== "inline";
  return box.right > innerWidth + 1 || box.left < -1 || isCut;
}).map((element) => element.outerHTML.slice(0, 120))"""
"""What is wider than the page, or than what it is in. What may scroll is left out."""

BRIGHTNESS = """async (png) => {
  const picture = await createImageBitmap(new Blob([Uint8Array.from(atob(png), (c) => c.charCodeAt(0))]));
  const context = new OffscreenCanvas(picture.width, picture.height).getContext("2d");
  context.drawImage(picture, 0, 0);
  const { data } = context.getImageData(0, 0, picture.width, picture.height);
  return data.reduce((sum, value, place) => (place % 4 === 3 ? sum : sum + value), 0) / ((data.length * 3) / 4);
}"""


def check_readable(page: Page, at_least: int) -> None:
    """Check that every text, of which there are so many, has contrast, and that nothing runs out of the page or its box."""
    contrasts = page.evaluate(CONTRASTS)
    assert len(contrasts) >= at_least
    assert [bad for bad in contrasts if bad[0] < LEAST_CONTRAST] == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.evaluate(OVERFLOWS) == []


def brightness_of(page: Page) -> float:
    """Give the mean brightness of what one sees of a page, from 0 to 255."""
    brightness: float = page.evaluate(BRIGHTNESS, b64encode(page.screenshot()).decode())
    return brightness
