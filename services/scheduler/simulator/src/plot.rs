//! Line and area plots as SVG. The same numbers give the same bytes: only sums, products and quotients, written with one decimal.

use std::fmt::Write;

use crate::play::Stage;
use crate::timeline::{Span, Timeline};
use crate::workload::Workload;

const WIDTH: f64 = 900.0;
const HEIGHT: f64 = 420.0;
const LEFT: f64 = 80.0;
const RIGHT: f64 = 190.0;
const TOP: f64 = 50.0;
const BOTTOM: f64 = 55.0;
const HOUR_MS: f64 = 3.6e6;
/// Queues with a layer of their own; the others share one.
const MOST_LAYERS: usize = 18;
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
    pub across: String,
    /// Beside the vertical one.
    pub up: String,
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
            escaped(&self.across),
            escaped(&self.up)
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

/// What is drawn of a play: use of what is one's own, waiting jobs, cost, and what each queue has of all that is in use.
#[must_use]
pub fn plots(workload: &Workload, stage: &Stage, timeline: &Timeline) -> Vec<Plot> {
    let (unit, clock) = (workload.unit, Clock::of(timeline));
    let own = (stage.size(unit).max(1)) as f64;
    let used = |span: &Span| span.queue_gpus.iter().sum::<i64>() as f64;
    let of_own = |span: &Span| used(span) - span.dear_gpus as f64;
    let means = |of: &dyn Fn(&Span) -> f64| {
        timeline.means(COLUMNS, of).into_iter().map(|(at, mean)| (at / clock.ms, mean)).collect::<Vec<_>>()
    };
    let series = |name: &str, points| Series { name: name.to_owned(), points };
    let plot = |name, title: String, up: &str, stacked, series| {
        let (across, up) = (clock.name.to_owned(), up.to_owned());
        Plot { name, title, across, up, series, stacked }
    };
    let queue =
        |(place, name): (usize, &String)| series(name, means(&|span| span.queue_gpus[place] as f64 / unit.per_one() as f64));
    let hours = |of: &dyn Fn(&Span) -> f64| summed(timeline, clock, &|span| of(span) / unit.per_one() as f64 / HOUR_MS);
    let cost = if stage.priced {
        let money = summed(timeline, clock, &|span| span.micros_per_hour as f64 / 1e6 / HOUR_MS);
        plot("cost", "Money spent so far".to_owned(), "in the currency of the prices", false, vec![series("all runs", money)])
    } else {
        let dear = stage.dear.as_ref().map(|name| series(name, hours(&|span| span.dear_gpus as f64)));
        let spent = std::iter::once(series("own nodes", hours(&of_own))).chain(dear).collect();
        let what = format!("{}-hours", unit.name().trim_end_matches('s'));
        plot("cost", format!("{what} spent so far"), &what, true, spent)
    };
    let utilisation = vec![series("in use", means(&|span| 100.0 * of_own(span) / own))];
    let waiting = vec![series("waiting", means(&|span| span.waiting as f64))];
    let mut shares: Vec<Series> = workload.queues.iter().enumerate().take(MOST_LAYERS).map(queue).collect();
    if workload.queues.len() > MOST_LAYERS {
        let others = |span: &Span| span.queue_gpus[MOST_LAYERS..].iter().sum::<i64>() as f64 / unit.per_one() as f64;
        shares.push(series(&format!("{} others", workload.queues.len() - MOST_LAYERS), means(&others)));
    }
    vec![
        plot("utilisation", format!("Own {} in use", unit.name()), "%", false, utilisation),
        plot("waiting", "Jobs that wait".to_owned(), "jobs", false, waiting),
        cost,
        plot("share", format!("{} in use per queue", unit.name()), unit.name(), true, shares),
    ]
}

/// What the horizontal axis counts.
#[derive(Clone, Copy)]
struct Clock {
    name: &'static str,
    ms: f64,
}

impl Clock {
    /// Seconds, hours or days, by how long it all lasted.
    fn of(timeline: &Timeline) -> Self {
        let lasted = (timeline.ended_ms - timeline.began_ms) as f64;
        match lasted {
            lasted if lasted < 2.0 * HOUR_MS => Self { name: "seconds", ms: 1e3 },
            lasted if lasted < 72.0 * HOUR_MS => Self { name: "hours", ms: HOUR_MS },
            _ => Self { name: "days", ms: 24.0 * HOUR_MS },
        }
    }
}

/// The sum of an amount up to each moment.
fn summed(timeline: &Timeline, clock: Clock, of: &dyn Fn(&Span) -> f64) -> Vec<(f64, f64)> {
    let every = timeline.spans.len().div_ceil(COLUMNS).max(1);
    let mut sum = 0.0;
    let mut points = vec![(0.0, 0.0)];
    for (at, span) in timeline.spans.iter().enumerate() {
        sum += of(span);
        if (at + 1) % every == 0 || at + 1 == timeline.spans.len() {
            let ended = ((at as i64 + 1) * timeline.width_ms).min(timeline.ended_ms - timeline.began_ms);
            points.push((ended as f64 / clock.ms, sum));
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
