"use strict";
const formats = { accuracy: "%{y:.1%}", loss: "%{y:.3g}", gradient: "%{y:.2g}", gradient_start: "%{y:.2g}" };
const names = Object.keys(formats);
const hidden = new Set();
const dark = matchMedia("(prefers-color-scheme: dark)");
const narrow = matchMedia("(max-width: 760px)");
const read = (name) => JSON.parse(document.getElementById("data-" + name).textContent);
const figures = Object.fromEntries(names.map((name) => [name, read(name)]));

function translucent(colour, alpha) {
  const [r, g, b] = [1, 3, 5].map((i) => parseInt(colour.slice(i, i + 2), 16));
  return `rgba(${r},${g},${b},${alpha})`;
}

function themed(name) {
  const figure = figures[name];
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
    const paint = colour("series-" + (series % 8));
    return {
      ...trace, showlegend: false, visible: !hidden.has(series),
      line: { ...trace.line, color: paint },
      marker: { ...trace.marker, color: paint },
      ...(role === "band" ? { fillcolor: translucent(paint, 0.16) } : {}),
      ...(role === "band" ? {} : { hovertemplate: `${formats[name]} %{fullData.name}<extra></extra>` }),
    };
  });
  const own = figure.layout;
  const layout = {
    ...own, autosize: true, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    margin: { l: 8, r: 52, t: 22, b: 8 }, hovermode: "x unified", dragmode: narrow.matches ? false : "zoom",
    font: { family: getComputedStyle(document.body).fontFamily, color: colour("text"), size: 13 },
    hoverlabel: { font: { size: 12, color: colour("text") }, bgcolor: colour("card"), bordercolor: colour("line") },
    xaxis: axis(own.xaxis), yaxis: axis(own.yaxis),
    shapes: (own.shapes || []).map((s) => ({ ...s, line: { ...s.line, color: colour("muted") } })),
    annotations: (own.annotations || []).map((a) => (
      { ...a, font: { ...a.font, color: colour("muted") } })),
  };
  return { data, layout };
}

function draw() {
  for (const name of names) {
    const { data, layout } = themed(name);
    Plotly.react("plot-" + name, data, layout, { responsive: true, displayModeBar: false, displaylogo: false });
  }
}

draw();
dark.addEventListener("change", draw);
narrow.addEventListener("change", draw);
for (const button of document.querySelectorAll(".legend button")) {
  button.addEventListener("click", () => {
    const series = Number(button.dataset.series);
    if (!hidden.delete(series)) hidden.add(series);
    for (const same of document.querySelectorAll(`.legend button[data-series="${series}"]`))
      same.setAttribute("aria-pressed", String(!hidden.has(series)));
    draw();
  });
}
document.getElementById("copy").addEventListener("click", async (event) => {
  const code = document.getElementById("command");
  try {
    await navigator.clipboard.writeText(code.textContent);
    event.target.textContent = "copied";
  } catch {
    getSelection().selectAllChildren(code);
  }
});
