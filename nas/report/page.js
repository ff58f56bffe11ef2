"use strict";
(() => {
  const root = document.documentElement, button = document.getElementById("theme"), live = document.getElementById("live");
  const charts = JSON.parse(document.getElementById("charts").textContent);
  const prefersDark = matchMedia("(prefers-color-scheme: dark)"), isCoarse = matchMedia("(pointer: coarse)").matches;
  const hasHover = matchMedia("(hover: hover)").matches;
  let chosen = null;
  // A browser may refuse its storage to a local file.
  try { chosen = localStorage.getItem("ortnas-theme"); } catch (error) { chosen = null; }

  // A custom property gives its formula; a colour made of it gives what the theme in force makes of that.
  const probe = document.body.appendChild(document.createElement("span"));
  const colour = (name) => { probe.style.color = `var(${name})`; return getComputedStyle(probe).color; };
  const paint = (value) => {
    if (typeof value === "string") return value.replace(/^var\((--[a-z0-9-]+)\)$/, (_, name) => colour(name));
    if (Array.isArray(value)) return typeof value[0] === "number" ? value : value.map(paint);
    if (value === null || typeof value !== "object") return value;
    return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, paint(inner)]));
  };

  const layoutOf = (own, width) => {
    const isNarrow = width < 480, look = { gridcolor: "var(--grid)", zerolinecolor: "var(--line)", linecolor: "var(--line)", zeroline: false };
    const small = isNarrow ? 11 : 12;
    return paint({
      ...own,
      font: { family: "system-ui, sans-serif", size: small, color: "var(--text)" },
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      margin: { l: 48, r: isNarrow ? 10 : 20, t: 14, b: 52, ...own.margin },
      xaxis: { ...look, nticks: isNarrow ? 6 : 10, ...own.xaxis },
      yaxis: { ...look, nticks: isNarrow ? 6 : 9, ...own.yaxis },
      legend: { orientation: "h", x: 0, xanchor: "left", yref: "container", y: 0, yanchor: "bottom", font: { size: small } },
      modebar: { bgcolor: "rgba(0,0,0,0)", color: "var(--muted)", activecolor: "var(--text)" },
      hoverlabel: { bgcolor: "var(--surface)", bordercolor: "var(--muted)", font: { color: "var(--text)", size: 12 }, align: "left" },
      hovermode: "closest",
      dragmode: isCoarse ? false : "zoom",
    });
  };
  const settings = {
    responsive: true, displaylogo: false, scrollZoom: false, displayModeBar: hasHover ? "hover" : false,
    // Nothing leaves the page: no button sends the chart to anybody.
    showSendToCloud: false, plotlyServerURL: "", modeBarButtons: [["toImage"], ["zoom2d", "pan2d", "resetScale2d"]],
  };
  const draw = () => {
    for (const [key, chart] of Object.entries(charts)) {
      const place = document.getElementById(`chart-${key}`);
      Plotly.react(place, paint(chart.traces), layoutOf(chart.layout, place.clientWidth), settings);
    }
  };

  const show = (theme) => {
    root.dataset.theme = theme;
    button.setAttribute("aria-pressed", String(theme === "dark"));
    button.textContent = theme === "dark" ? "Light" : "Dark";
    draw();
  };
  button.addEventListener("click", () => {
    chosen = root.dataset.theme === "dark" ? "light" : "dark";
    try { localStorage.setItem("ortnas-theme", chosen); } catch (error) { /* it lasts as long as the page */ }
    show(chosen);
  });
  prefersDark.addEventListener("change", (event) => { if (!chosen) show(event.matches ? "dark" : "light"); });

  // Arrow keys walk over the points of a chart: left and right within a series, up and down between them.
  const walk = (place, key) => {
    const series = place.data.map((trace, number) => ({ trace, number })).filter(({ trace }) =>
      trace.hoverinfo !== "skip" && trace.visible !== "legendonly" && (trace.x || []).length);
    if (!series.length) return false;
    const at = place.walked || { series: 0, point: -1 };
    if (key === "ArrowUp" || key === "ArrowDown") {
      at.series = (at.series + (key === "ArrowDown" ? 1 : series.length - 1)) % series.length;
      at.point = 0;
    } else {
      const order = series[at.series].trace.x.length;
      at.point = (at.point + (key === "ArrowRight" ? 1 : order - 1) + order) % order;
    }
    place.walked = at;
    const { trace, number } = series[at.series];
    const points = trace.type === "histogram" ? place.calcdata[number].length : trace.x.length;
    at.point = Math.min(at.point, points - 1);
    Plotly.Fx.hover(place, [{ curveNumber: number, pointNumber: at.point }]);
    const text = trace.hovertext ? trace.hovertext[at.point].replace(/<[^>]*>/g, " ") : `${trace.x[at.point]}, ${trace.y ? trace.y[at.point] : ""}`;
    live.textContent = `${trace.name}: ${text}`.replaceAll("&lt;", "<").replaceAll("&gt;", ">").replaceAll("&amp;", "&");
    return true;
  };
  for (const key of Object.keys(charts)) {
    const place = document.getElementById(`chart-${key}`);
    place.addEventListener("keydown", (event) => {
      if (event.key.startsWith("Arrow") && walk(place, event.key)) event.preventDefault();
      if (event.key === "Escape") Plotly.Fx.unhover(place);
    });
    place.addEventListener("blur", () => Plotly.Fx.unhover(place));
  }
  show(chosen || (prefersDark.matches ? "dark" : "light"));
})();
