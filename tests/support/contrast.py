"""How well the texts of a page are seen, asked in the browser, of the colours that it has come to."""

# The text with the least contrast to what lies under it, of all that is seen: [ratio, text].
CONTRAST = """(() => {
  const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  canvas.canvas.width = canvas.canvas.height = 1;
  const lay = (colour) => {
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    return canvas.getImageData(0, 0, 1, 1).data;
  };
  const linear = (c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
  const parts = [0.2126, 0.7152, 0.0722];
  const light = (c) => parts.reduce((sum, part, i) => sum + part * linear(c[i] / 255), 0.05);
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), seen = [];
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const around = node.parentElement;
    if (!node.data.trim() || !around.checkVisibility() || around.closest('.katex-mathml, option')) continue;
    const way = [];
    for (let up = around; up; up = up.parentElement) way.unshift(getComputedStyle(up).backgroundColor);
    const under = light(way.map(lay).at(-1)), ink = light(lay(getComputedStyle(around).color));
    const ratio = Math.max(under, ink) / Math.min(under, ink);
    seen.push([ratio, `${around.className}: ${node.data.slice(0, 40)}`]);
  }
  return seen.sort((a, b) => a[0] - b[0])[0];
})()"""
