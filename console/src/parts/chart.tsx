/** A chart of the last minutes, drawn by uPlot, with its legend as text above it: the newest figures, or those under
 * the pointer. Charts of one page share the pointer. */
import { useEffect, useRef, useState } from "preact/hooks";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { useTheme } from "../state/theme";

export interface Series {
  label: string;
  /** A custom property of the style sheet. */
  color: string;
  dash?: number[];
  fill?: boolean;
}

export interface ChartProps {
  title: string;
  unit: string;
  series: Series[];
  /** Seconds since 1970, then a row for each series. */
  data: (number | null)[][];
  format: (value: number) => string;
  /** By powers of ten: for what lies far apart. */
  isLog?: boolean;
  waiting: string | null;
}

const HEIGHT = 176;
const AXIS_WIDTH = 62;
const WINDOW_MIN_S = 60;

function css(name: string): string {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

/** The whole time there is, one minute at least: the window grows with the first minutes and moves on after them. */
function windowOf(_: uPlot, min: number | null, max: number | null): uPlot.Range.MinMax {
  if (min === null || max === null) return [0, WINDOW_MIN_S];
  return [Math.min(min, max - WINDOW_MIN_S), max];
}

/** Every round number that fits; a chart with nothing but zeros still has a scale. */
function rangeOf(_: uPlot, _min: number | null, max: number | null): uPlot.Range.MinMax {
  return [0, Math.max(max ?? 0, 1) * 1.1];
}

/** Whole powers of ten around all there is. */
function decadesOf(_: uPlot, min: number | null, max: number | null): uPlot.Range.MinMax {
  if (min === null || max === null) return [10, 1000];
  const low = 10 ** Math.floor(Math.log10(Math.max(min, 1)));
  return [low, Math.max(10 ** Math.ceil(Math.log10(Math.max(max, 1))), low * 10)];
}

function powersOfTen(_: uPlot, _axis: number, low: number, high: number): number[] {
  const first = Math.round(Math.log10(low));
  return Array.from({ length: Math.round(Math.log10(high)) - first + 1 }, (_unused, at) => 10 ** (first + at));
}

function optionsOf(props: ChartProps, width: number, onIndex: (index: number | null) => void): uPlot.Options {
  const axis = { stroke: css("--ink-3"), font: `12px ${css("--font-text")}`, ticks: { show: false } };
  return {
    width,
    height: HEIGHT,
    padding: [8, 26, 0, 0],
    legend: { show: false },
    cursor: { sync: { key: "pulse" }, points: { size: 6 }, y: false, drag: { x: false, y: false } },
    scales: { x: { time: true, range: windowOf }, y: props.isLog ? { distr: 3, range: decadesOf } : { range: rangeOf } },
    axes: [
      { ...axis, grid: { show: false }, size: 26, gap: 6, space: 72, values: (_, at) => at.map((t) => new Date(t * 1000).toLocaleTimeString("en-GB")) },
      { ...axis, grid: { stroke: css("--line"), width: 1 }, size: AXIS_WIDTH, space: 36, values: (_, at) => at.map(props.format), ...(props.isLog && { splits: powersOfTen, filter: (_, at) => at }) },
    ],
    series: [
      {},
      ...props.series.map((one) => ({
        label: one.label,
        stroke: css(one.color),
        width: 1.5,
        points: { show: false },
        ...(one.dash && { dash: one.dash }),
        ...(one.fill && { fill: `color-mix(in srgb, ${css(one.color)} 14%, transparent)` }),
      })),
    ],
    hooks: { setCursor: [(plot) => onIndex(plot.cursor.idx ?? null)] },
  };
}

function Legend({ props, at }: { props: ChartProps; at: number }) {
  return (
    <ul class="legend">
      {props.series.map((one, row) => {
        const value = props.data[row + 1]?.[at];
        return (
          <li key={one.label}>
            <svg class="swatch" width="14" height="4" aria-hidden="true">
              <line x1="0" x2="14" y1="2" y2="2" stroke={`var(${one.color})`} stroke-width="2.5" stroke-dasharray={one.dash?.join(" ") ?? "none"} />
            </svg>
            <span class="legend-label">{one.label}</span>
            <span class="figure">{value === null || value === undefined ? "–" : props.format(value)}</span>
          </li>
        );
      })}
    </ul>
  );
}

export function Chart(props: ChartProps) {
  const box = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const [index, setIndex] = useState<number | null>(null);
  const { isDark } = useTheme();
  useEffect(() => {
    const element = box.current!;
    plot.current = new uPlot(optionsOf(props, element.clientWidth, setIndex), props.data as uPlot.AlignedData, element);
    const sizes = new ResizeObserver(() => plot.current?.setSize({ width: element.clientWidth, height: HEIGHT }));
    sizes.observe(element);
    return () => {
      sizes.disconnect();
      plot.current?.destroy();
      plot.current = null;
    };
  }, [isDark]);
  useEffect(() => plot.current?.setData(props.data as uPlot.AlignedData), [props.data]);
  const times = props.data[0] ?? [];
  const at = index !== null && index < times.length ? index : times.length - 1;
  const spoken = props.series.map((one, row) => {
    const value = props.data[row + 1]?.[at];
    return `${one.label} ${value === null || value === undefined ? "none" : props.format(value)}`;
  });
  return (
    <section class="panel chart" aria-label={props.title}>
      <header class="panel-head">
        <h2>
          {props.title} <span class="unit">{props.unit}</span>
        </h2>
        <Legend props={props} at={at} />
      </header>
      <div class="plot" ref={box} role="img" aria-label={`${props.title} of the last five minutes. ${spoken.join(", ")}`}>
        {props.waiting !== null && <p class="plot-note">{props.waiting}</p>}
      </div>
    </section>
  );
}
