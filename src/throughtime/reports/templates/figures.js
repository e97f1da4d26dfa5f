"use strict";
const plots = [...document.querySelectorAll(".plot")];
const hidden = new Set(); // "plot series", or " series" in all plots
const dark = matchMedia("(prefers-color-scheme: dark)");
const narrow = matchMedia("screen and (max-width: 760px)");
const nameOf = (plot) => plot.id.replace("plot-", "");
const read = (name) => JSON.parse(document.getElementById("data-" + name).textContent);
const figures = new Map(plots.map((plot) => [plot, read(nameOf(plot))]));

function translucent(colour, alpha) {
  const [r, g, b] = [1, 3, 5].map((i) => parseInt(colour.slice(i, i + 2), 16));
  return `rgba(${r},${g},${b},${alpha})`;
}

function stepped(count, paint) {
  return Array.from({ length: count }, (_, k) => [[k / count, paint(k)], [(k + 1) / count, paint(k)]]).flat();
}

function themed(plot) {
  const figure = figures.get(plot);
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue("--" + name).trim();
  const axis = (own, title) => ({
    ...own,
    title: { ...own.title, standoff: 8, font: { size: 13 } },
    gridcolor: colour("grid"), linecolor: colour("line"), zeroline: false, automargin: true,
    tickfont: { size: 12, color: colour("muted") }, fixedrange: narrow.matches,
  });
  const data = figure.data.map((trace) => {
    const { series, role } = trace.meta;
    const paint = colour({ reference: "muted", mark: "text" }[role] || "series-" + (series % 8));
    if (trace.type === "heatmap") {
      const regions = trace.meta.regions; // their colours are those of series
      return {
        ...trace, colorbar: { ...trace.colorbar, outlinewidth: 0, tickfont: { size: 12, color: colour("muted") } },
        ...(regions ? { colorscale: stepped(regions, (k) => translucent(colour("series-" + (k % 8)), 0.45)) } : {}),
      };
    }
    return {
      ...trace, showlegend: false, visible: !hidden.has(" " + series) && !hidden.has(nameOf(plot) + " " + series),
      line: { ...trace.line, color: paint },
      marker: { ...trace.marker, color: paint },
      ...(role === "band" ? { fillcolor: translucent(paint, 0.16) } : {}),
      ...(role === "band" || trace.hovertemplate || trace.hoverinfo ? {} : { hovertemplate: `${plot.dataset.format} %{fullData.name}<extra></extra>` }),
    };
  });
  const own = figure.layout;
  const layout = {
    ...own, autosize: true, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    margin: { l: 8, r: 52, t: 22, b: 8, ...own.margin }, hovermode: own.hovermode || "x unified", dragmode: narrow.matches ? false : "zoom",
    font: { family: getComputedStyle(document.body).fontFamily, color: colour("text"), size: 13 },
    hoverlabel: { font: { size: 12, color: colour("text") }, bgcolor: colour("card"), bordercolor: colour("line") },
    xaxis: axis(own.xaxis), yaxis: axis(own.yaxis),
    shapes: (own.shapes || []).map((s) => ({ ...s, line: { ...s.line, color: colour("muted") } })),
    annotations: (own.annotations || []).map((a) => (
      { ...a, font: { ...a.font, color: colour("muted") }, ...(a.bgcolor ? { bgcolor: translucent(colour("card"), 0.8) } : {}) })),
  };
  return { data, layout };
}

function draw() {
  for (const plot of plots) {
    if (plot.offsetParent === null) continue; // folded: drawn when it is opened
    const { data, layout } = themed(plot);
    Plotly.react(plot, data, layout, { responsive: true, displayModeBar: false, displaylogo: false });
  }
}

// On paper: light colours, and figures as wide as the paper, which they cannot learn in time.
function paper(printing) {
  document.documentElement.toggleAttribute("data-print", printing);
  draw();
}

draw();
addEventListener("beforeprint", () => paper(true));
addEventListener("afterprint", () => paper(false));
dark.addEventListener("change", draw);
narrow.addEventListener("change", draw);
for (const details of document.querySelectorAll("details"))
  details.addEventListener("toggle", () => { if (details.querySelector(".plot")) draw(); });
for (const button of document.querySelectorAll(".legend button")) {
  const { plot, series } = button.dataset;
  button.addEventListener("click", () => {
    const key = plot + " " + series;
    if (!hidden.delete(key)) hidden.add(key);
    for (const same of document.querySelectorAll(`.legend button[data-plot="${plot}"][data-series="${series}"]`))
      same.setAttribute("aria-pressed", String(!hidden.has(key)));
    draw();
  });
}
for (const button of document.querySelectorAll("button.copy")) {
  const code = button.parentElement.querySelector("code");
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(code.textContent);
      button.textContent = "copied";
    } catch {
      getSelection().selectAllChildren(code);
    }
  });
}
