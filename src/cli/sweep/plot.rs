//! The picture of a task: quality over time, and over arithmetic.

use super::{
    axis::Axis,
    grid::EXPERT,
    metric::Metric,
    report::TaskReport,
    style::{Style, style},
    summary::{Estimate, Summary},
};
use drafthorse::quality::front;
use std::collections::HashMap;
use svg::{
    Document,
    node::element::{Circle, Group, Line, Polyline, Rectangle, Text},
};

const WIDTH: f64 = 1580.0;
const HEIGHT: f64 = 760.0;
const TOP: f64 = 84.0;
const BOTTOM: f64 = HEIGHT - 70.0;
/// Left ends of the panels, and how wide they are.
const PANELS: [f64; 2] = [86.0, 702.0];
const PANEL_WIDTH: f64 = 530.0;
const LEGEND: f64 = 1264.0;
const FRONT: &str = "#e6a700";

/// Points that belong together, in the order of their dial.
struct Curve<'a> {
    name: &'a str,
    promise: &'static str,
    style: Style,
    points: Vec<&'a Summary>,
}

impl Curve<'_> {
    fn is_reference(&self) -> bool {
        REFERENCES.contains(&self.promise)
    }
}

/// Kinds of curves that stand out in black and grey.
const REFERENCES: [&str; 2] = ["baseline", "lossless"];

/// What lies on the horizontal axis.
struct Cost {
    title: &'static str,
    of: fn(&Summary) -> Option<Estimate>,
}

const COSTS: [Cost; 2] = [
    Cost { title: "time a token / that of the expert alone", of: |summary| summary.relative_time },
    Cost {
        title: "arithmetic a token (parameters x rows) / that of the expert alone",
        of: |summary| summary.relative_compute,
    },
];

/// Draws a task.
pub(super) fn draw(report: &TaskReport, metric: Metric, subtitle: &str) -> String {
    let curves = curves(&report.points);
    let mut document = Document::new()
        .set("viewBox", (0, 0, WIDTH, HEIGHT))
        .set("width", WIDTH)
        .set("height", HEIGHT)
        .set("font-family", "Helvetica, Arial, sans-serif")
        .add(Rectangle::new().set("width", "100%").set("height", "100%").set("fill", "#ffffff"))
        .add(text(&format!("{}: cost against quality", report.task), PANELS[0], 30.0, 20))
        .add(text(subtitle, PANELS[0], 54.0, 13));
    for (left, cost) in PANELS.iter().zip(&COSTS) {
        document = document.add(panel(report, &curves, metric, cost, *left));
    }
    document.add(legend(&curves)).to_string()
}

fn curves(points: &[Summary]) -> Vec<Curve<'_>> {
    let mut curves: Vec<Curve<'_>> = Vec::new();
    let mut of_kind: HashMap<&str, usize> = HashMap::new();
    for point in points {
        if let Some(curve) = curves.iter_mut().find(|curve| curve.name == point.curve) {
            curve.points.push(point);
            continue;
        }
        let kind = if REFERENCES.contains(&point.promise) { point.promise } else { "" };
        let number = of_kind.entry(kind).or_default();
        let style = style(kind, *number);
        *number += 1;
        curves.push(Curve { name: &point.curve, promise: point.promise, style, points: vec![point] });
    }
    // Those of a kind stand together in the legend, wherever they stand in a list.
    let kinds: Vec<_> = curves.iter().map(|curve| curve.promise).collect();
    curves.sort_by_key(|curve| kinds.iter().position(|kind| *kind == curve.promise));
    for curve in &mut curves {
        curve.points.sort_by(|a, b| a.value.partial_cmp(&b.value).unwrap_or(std::cmp::Ordering::Equal));
    }
    curves
}

fn panel(report: &TaskReport, curves: &[Curve<'_>], metric: Metric, cost: &Cost, left: f64) -> Group {
    let quality = |summary: &Summary| summary.quality.get(&metric).copied();
    let place = |s: &Summary| Some(((cost.of)(s)?.mean, quality(s)?.mean));
    let places: Vec<_> = report.points.iter().filter_map(place).collect();
    let x = Axis::over(places.iter().map(|(cost, _)| *cost), left, left + PANEL_WIDTH);
    let y = Axis::over(places.iter().map(|(_, quality)| *quality), BOTTOM, TOP);
    let mut group = frame(&x, &y, cost.title, metric.title(), left);
    if let Some(expert) = report.points.iter().find(|s| s.point == EXPERT).and_then(quality) {
        group = group.add(level(expert, &y, left));
    }
    group = group.add(envelope(&places, &x, &y));
    // What all others are compared with lies on top.
    let (above, below): (Vec<_>, Vec<_>) = curves.iter().partition(|curve| curve.is_reference());
    for curve in below.into_iter().chain(above) {
        let places = curve.points.iter().filter_map(|summary| place(summary));
        let places: Vec<_> = places.map(|(cost, quality)| (x.at(cost), y.at(quality))).collect();
        let mut line = lines(&places, curve.style.color).set("stroke-width", 1.2).set("stroke-opacity", 0.65);
        if curve.style.dashed {
            line = line.set("stroke-dasharray", "3 3");
        }
        group = group.add(line);
        for (x, y) in places {
            group = group.add(curve.style.mark(x, y));
        }
    }
    group
}

/// Axes with their marks.
fn frame(x: &Axis, y: &Axis, across: &str, up: &str, left: f64) -> Group {
    let (right, middle) = (left + PANEL_WIDTH, left + PANEL_WIDTH / 2.0);
    let mut group = Group::new();
    for (value, label) in x.ticks() {
        let at = x.at(value);
        group = group
            .add(line(at, TOP, at, BOTTOM, "#e8e8e8"))
            .add(text(&label, at, BOTTOM + 20.0, 13).set("text-anchor", "middle"));
    }
    for (value, label) in y.ticks() {
        let at = y.at(value);
        group = group
            .add(line(left, at, right, at, "#e8e8e8"))
            .add(text(&label, left - 8.0, at + 4.5, 13).set("text-anchor", "end"));
    }
    let (turned, height) = (left - 58.0, f64::midpoint(TOP, BOTTOM));
    let across = text(across, middle, BOTTOM + 46.0, 14).set("text-anchor", "middle");
    let up = text(up, turned, height, 14)
        .set("text-anchor", "middle")
        .set("transform", format!("rotate(-90 {turned} {height})"));
    let one = x.at(1.0);
    if (left..=right).contains(&one) {
        group = group.add(line(one, TOP, one, BOTTOM, "#bbbbbb"));
    }
    group
        .add(line(left, BOTTOM, right, BOTTOM, "#333333"))
        .add(line(left, TOP, left, BOTTOM, "#333333"))
        .add(across)
        .add(up)
}

/// The expert's quality, with its standard error.
fn level(expert: Estimate, y: &Axis, left: f64) -> Group {
    let (at, error) = (y.at(expert.mean), expert.standard_error.unwrap_or(0.0));
    let (top, bottom) = (y.at(expert.mean + error).max(TOP), y.at(expert.mean - error).min(BOTTOM));
    let band = Rectangle::new()
        .set("x", left)
        .set("y", round(top))
        .set("width", PANEL_WIDTH)
        .set("height", round(bottom - top))
        .set("fill", "#000000")
        .set("fill-opacity", 0.05);
    let dashed = line(left, at, left + PANEL_WIDTH, at, "#222222");
    Group::new().add(band).add(dashed.set("stroke-dasharray", "8 5").set("stroke-width", 1.4))
}

/// The Pareto front of these places.
fn envelope(places: &[(f64, f64)], x: &Axis, y: &Axis) -> Group {
    let front = front(places);
    let mut chosen: Vec<_> = places.iter().zip(front).filter(|(_, front)| *front).map(|(p, _)| *p).collect();
    chosen.sort_by(|a, b| a.0.total_cmp(&b.0));
    let on_picture: Vec<_> = chosen.iter().map(|(cost, quality)| (x.at(*cost), y.at(*quality))).collect();
    let line = lines(&on_picture, FRONT).set("stroke-width", 7).set("stroke-opacity", 0.35);
    on_picture.iter().fold(Group::new().add(line), |group, (x, y)| group.add(ring(*x, *y)))
}

fn ring(x: f64, y: f64) -> Circle {
    let circle = Circle::new().set("cx", round(x)).set("cy", round(y)).set("r", 9);
    circle.set("fill", FRONT).set("fill-opacity", 0.25).set("stroke", FRONT).set("stroke-width", 1.6)
}

/// What the signs mean.
fn legend(curves: &[Curve<'_>]) -> Group {
    let mut group = Group::new();
    let mut y = TOP - 4.0;
    let mut heading = "";
    for curve in curves {
        if curve.promise != heading {
            heading = curve.promise;
            y += if y > TOP { 6.0 } else { 0.0 };
            group = group.add(text(heading, LEGEND, y, 12).set("font-style", "italic"));
            y += 17.0;
        }
        let mut sample = line(LEGEND, y - 4.0, LEGEND + 28.0, y - 4.0, curve.style.color);
        if curve.style.dashed {
            sample = sample.set("stroke-dasharray", "3 3");
        }
        group = group.add(sample).add(curve.style.mark(LEGEND + 14.0, y - 4.0));
        let dial = curve.points.first().and_then(|point| point.dial).filter(|_| curve.points.len() > 1);
        let dial = dial.map_or(String::new(), |dial| format!(" ({dial}: {})", range(curve)));
        group = group.add(text(&format!("{}{dial}", curve.name), LEGEND + 36.0, y, 12));
        y += 17.5;
    }
    y += 8.0;
    let dashed = line(LEGEND, y - 4.0, LEGEND + 28.0, y - 4.0, "#222222").set("stroke-dasharray", "8 5");
    group = group.add(dashed).add(text("the expert's quality ± standard error", LEGEND + 36.0, y, 12));
    y += 20.0;
    group.add(ring(LEGEND + 14.0, y - 4.0)).add(text("Pareto front", LEGEND + 36.0, y, 12))
}

/// The values of a curve's dial, from the least to the greatest.
fn range(curve: &Curve<'_>) -> String {
    let values = || curve.points.iter().filter_map(|point| point.value);
    let (low, high) = (values().fold(f64::INFINITY, f64::min), values().fold(f64::NEG_INFINITY, f64::max));
    format!("{low} to {high}")
}

fn text(content: &str, x: f64, y: f64, size: u32) -> Text {
    Text::new(content).set("x", round(x)).set("y", round(y)).set("font-size", size).set("fill", "#222222")
}

fn line(x1: f64, y1: f64, x2: f64, y2: f64, color: &str) -> Line {
    let line = Line::new().set("x1", round(x1)).set("y1", round(y1)).set("x2", round(x2));
    line.set("y2", round(y2)).set("stroke", color)
}

fn lines(places: &[(f64, f64)], color: &str) -> Polyline {
    let places: Vec<_> = places.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
    Polyline::new().set("points", places.join(" ")).set("fill", "none").set("stroke", color)
}

fn round(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}
