//! Line and area plots as SVG. The same numbers give the same bytes: only sums, products and quotients, written with one decimal.

use std::fmt::Write;

use crate::timeline::{Hour, Timeline};

const WIDTH: f64 = 900.0;
const HEIGHT: f64 = 420.0;
const LEFT: f64 = 80.0;
const RIGHT: f64 = 190.0;
const TOP: f64 = 50.0;
const BOTTOM: f64 = 55.0;
/// Columns of what is drawn over time.
const COLUMNS: usize = 600;
/// Distinguishable also for who sees red and green alike: hues of a wheel at two lightnesses.
const COLOURS: [&str; 12] = [
    "#1f5fa8", "#e08a1e", "#3a9a8c", "#b0413e", "#7a5aa6", "#8c8c2c", "#6aa9e0", "#f0bd70", "#86ccbf", "#dd8a86", "#b9a3d6",
    "#555555",
];

/// One line, or one layer of an area.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// For the legend.
    pub name: String,
    /// From left to right; in a stack all series have the same first numbers.
    pub points: Vec<(f64, f64)>,
}

/// A plot.
#[derive(Clone, Debug, PartialEq)]
pub struct Plot {
    /// Name of its file, without `.svg`.
    pub name: &'static str,
    /// Above it.
    pub title: String,
    /// Below the horizontal axis.
    pub across: &'static str,
    /// Beside the vertical one.
    pub up: &'static str,
    /// Drawn in this order.
    pub series: Vec<Series>,
    /// Layers on top of each other instead of lines.
    pub stacked: bool,
}

impl Plot {
    /// The file's text.
    #[must_use]
    pub fn svg(&self) -> String {
        let layers = if self.stacked { self.layers() } else { self.series.iter().map(|series| series.points.clone()).collect() };
        let all = || layers.iter().flatten();
        let (right, top) = (ceiling(all().map(|point| point.0)), ceiling(all().map(|point| point.1)));
        let x = |value: f64| LEFT + value / right * (WIDTH - LEFT - RIGHT);
        let y = |value: f64| HEIGHT - BOTTOM - value / top * (HEIGHT - TOP - BOTTOM);
        let mut out = String::new();
        let _ = writeln!(
            out,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\">"
        );
        let _ = writeln!(out, "<rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#ffffff\"/>");
        let _ = writeln!(out, "<text x=\"{LEFT}\" y=\"26\" font-size=\"15\">{}</text>", escaped(&self.title));
        for step in 0..=5 {
            let part = f64::from(step) / 5.0;
            let (at_x, at_y) = (x(part * right), y(part * top));
            let (x_end, y_end) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
            let _ = writeln!(
                out,
                "<path d=\"M{LEFT} {at_y:.1}H{x_end}M{at_x:.1} {y_end}v5\" stroke=\"#dddddd\" fill=\"none\"/>\n<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\n<text x=\"{at_x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
                LEFT - 6.0,
                at_y + 4.0,
                number(part * top),
                y_end + 19.0,
                number(part * right)
            );
        }
        let middle = (HEIGHT - BOTTOM).midpoint(TOP);
        let _ = writeln!(
            out,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\n<text transform=\"translate(18 {middle:.1}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
            (WIDTH - RIGHT).midpoint(LEFT),
            HEIGHT - 12.0,
            escaped(self.across),
            escaped(self.up)
        );
        // Layers from the back to the front: the highest first.
        let mut drawn: Vec<(usize, &Vec<(f64, f64)>)> = layers.iter().enumerate().collect();
        if self.stacked {
            drawn.reverse();
        }
        for (index, points) in drawn {
            let mut path = String::new();
            for (at, (across, up)) in points.iter().enumerate() {
                let _ = write!(path, "{}{:.1} {:.1}", if at == 0 { "M" } else { "L" }, x(*across), y(*up));
            }
            let colour = COLOURS[index % COLOURS.len()];
            if let (true, Some(first), Some(last)) = (self.stacked, points.first(), points.last()) {
                let _ = write!(path, "L{:.1} {:.1}L{:.1} {:.1}Z", x(last.0), y(0.0), x(first.0), y(0.0));
                let _ = writeln!(out, "<path d=\"{path}\" fill=\"{colour}\"/>");
            } else {
                let _ = writeln!(out, "<path d=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\"/>");
            }
        }
        for (index, series) in self.series.iter().enumerate() {
            let (at, colour) = (TOP + 18.0 * index as f64, COLOURS[index % COLOURS.len()]);
            let _ = writeln!(
                out,
                "<rect x=\"{:.1}\" y=\"{at:.1}\" width=\"12\" height=\"12\" fill=\"{colour}\"/>\n<text x=\"{:.1}\" y=\"{:.1}\">{}</text>",
                WIDTH - RIGHT + 16.0,
                WIDTH - RIGHT + 34.0,
                at + 10.0,
                escaped(&series.name)
            );
        }
        out.push_str("</svg>\n");
        out
    }

    /// Each series on top of the ones before it.
    fn layers(&self) -> Vec<Vec<(f64, f64)>> {
        let mut sums: Vec<f64> = vec![0.0; self.series.iter().map(|series| series.points.len()).max().unwrap_or(0)];
        let layer = |series: &Series| {
            let points = series.points.iter().zip(&mut sums);
            points
                .map(|((across, up), sum)| {
                    *sum += up;
                    (*across, *sum)
                })
                .collect()
        };
        self.series.iter().map(layer).collect()
    }
}

/// What is drawn of a play on so many own GPUs: use, waiting jobs, cost in GPU-hours, and what each queue has of all GPUs in use.
#[must_use]
pub fn plots(queues: &[String], own_gpus: u64, timeline: &Timeline) -> Vec<Plot> {
    let used = |hour: &Hour| hour.queue_gpus.iter().sum::<i64>();
    let series = |name: &str, points| Series { name: name.to_owned(), points };
    let has_dear = timeline.hours.iter().any(|hour| hour.dear_gpus > 0);
    let plot =
        |name, title: &str, up, stacked, series| Plot { name, title: title.to_owned(), across: "days", up, series, stacked };
    let percent = |hour: &Hour| 100 * (used(hour) - hour.dear_gpus) / i64::try_from(own_gpus.max(1)).unwrap_or(i64::MAX);
    let queue = |(place, name): (usize, &String)| series(name, timeline.means(COLUMNS, |hour| hour.queue_gpus[place]));
    let mut cost = vec![series("own nodes", summed(timeline, |hour| used(hour) - hour.dear_gpus))];
    if has_dear {
        cost.push(series("dear cluster", summed(timeline, |hour| hour.dear_gpus)));
    }
    vec![
        plot("utilisation", "Own GPUs in use", "%", false, vec![series("in use", timeline.means(COLUMNS, percent))]),
        plot("waiting", "Jobs that wait", "jobs", false, vec![series("waiting", timeline.means(COLUMNS, |hour| hour.waiting))]),
        plot("cost", "GPU-hours spent so far", "GPU-hours", true, cost),
        plot("share", "GPUs in use per queue", "GPUs", true, queues.iter().enumerate().map(queue).collect()),
    ]
}

/// The sum of GPU-hours up to each moment.
fn summed(timeline: &Timeline, of: impl Fn(&Hour) -> i64) -> Vec<(f64, f64)> {
    let every = timeline.hours.len().div_ceil(COLUMNS).max(1);
    let mut sum = 0;
    let mut points = vec![(0.0, 0.0)];
    for (at, hour) in timeline.hours.iter().enumerate() {
        sum += of(hour);
        if (at + 1) % every == 0 || at + 1 == timeline.hours.len() {
            points.push(((at + 1) as f64 / 24.0, sum as f64 / 3.6e6));
        }
    }
    points
}

/// The least of 1, 2, 2.5, 5 times a power of ten that nothing is above.
fn ceiling(values: impl Iterator<Item = f64>) -> f64 {
    let most = values.fold(0.0, f64::max);
    let mut power = 1e-3;
    while power * 10.0 < most {
        power *= 10.0;
    }
    [1.0, 2.0, 2.5, 5.0, 10.0].into_iter().map(|times| times * power).find(|ceiling| *ceiling >= most).unwrap_or(power * 10.0)
}

/// A label of an axis: no more decimals than it needs.
fn number(value: f64) -> String {
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Text in XML. Characters that XML does not have are left out.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\u{0}'..='\u{8}' | '\u{b}' | '\u{c}' | '\u{e}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => {}
            _ => out.push(letter),
        }
    }
    out
}
