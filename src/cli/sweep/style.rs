//! How curves are told apart.

use svg::node::element::Path;

/// Colour, marker and line of a curve.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Style {
    pub(super) color: &'static str,
    pub(super) marker: Marker,
    pub(super) dashed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Marker {
    Circle,
    Square,
    Diamond,
    Up,
    Down,
    Cross,
    Plus,
    Star,
}

/// Well apart for most eyes, the rest is left to the markers.
const COLORS: [&str; 9] =
    ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#7a4fbf", "#56a0d3", "#a6761d", "#e7298a", "#4d9221"];
const MARKERS: [Marker; 5] = [Marker::Circle, Marker::Square, Marker::Up, Marker::Diamond, Marker::Down];

/// The style of a curve: `number` counts the curves of its kind.
pub(super) fn style(promise: &str, number: usize) -> Style {
    let grey = ["#000000", "#555555", "#8c8c8c", "#b0b0b0"][number % 4];
    match promise {
        "baseline" => {
            let markers = [Marker::Star, Marker::Cross, Marker::Plus, Marker::Diamond];
            Style { color: grey, marker: markers[number % 4], dashed: true }
        }
        "lossless" => {
            let markers = [Marker::Circle, Marker::Square, Marker::Up, Marker::Down];
            Style { color: grey, marker: markers[number % 4], dashed: false }
        }
        _ => {
            let (color, marker) = (COLORS[number % COLORS.len()], MARKERS[number % MARKERS.len()]);
            Style { color, marker, dashed: false }
        }
    }
}

impl Style {
    /// The marker at a place of the picture.
    pub(super) fn mark(&self, x: f64, y: f64) -> Path {
        let path = |text: String| Path::new().set("d", text);
        let polygon = |corners: &[(f64, f64)]| {
            let corner = |(dx, dy): &(f64, f64)| format!("{:.1} {:.1}", x + dx, y + dy);
            let text = corners.iter().map(corner).collect::<Vec<_>>().join("L");
            path(format!("M{text}Z"))
        };
        let strokes =
            |text: String| path(text).set("fill", "none").set("stroke", self.color).set("stroke-width", 2);
        let shape = match self.marker {
            Marker::Circle => path(format!("M{:.1} {y:.1}a4 4 0 1 0 8 0a4 4 0 1 0 -8 0Z", x - 4.0)),
            Marker::Square => polygon(&[(-3.6, -3.6), (3.6, -3.6), (3.6, 3.6), (-3.6, 3.6)]),
            Marker::Diamond => polygon(&[(0.0, -5.0), (5.0, 0.0), (0.0, 5.0), (-5.0, 0.0)]),
            Marker::Up => polygon(&[(0.0, -5.0), (4.6, 3.6), (-4.6, 3.6)]),
            Marker::Down => polygon(&[(0.0, 5.0), (4.6, -3.6), (-4.6, -3.6)]),
            Marker::Star => {
                let corner = |i: usize| {
                    let (angle, radius) = (
                        f64::from(i as u32) * std::f64::consts::PI / 5.0,
                        if i.is_multiple_of(2) { 9.0 } else { 3.8 },
                    );
                    (radius * angle.sin(), -radius * angle.cos())
                };
                polygon(&(0..10).map(corner).collect::<Vec<_>>())
            }
            Marker::Cross => {
                let (l, r, t, b) = (x - 4.5, x + 4.5, y - 4.5, y + 4.5);
                return strokes(format!("M{l:.1} {t:.1}L{r:.1} {b:.1}M{l:.1} {b:.1}L{r:.1} {t:.1}"));
            }
            Marker::Plus => {
                let (l, t) = (x - 5.0, y - 5.0);
                return strokes(format!("M{l:.1} {y:.1}h10M{x:.1} {t:.1}v10"));
            }
        };
        shape.set("fill", self.color).set("stroke", "#ffffff").set("stroke-width", 0.7)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_curves_look_alike() {
        let mut styles: Vec<Style> = (0..30).map(|number| style("lossy", number)).collect();
        styles.extend((0..4).map(|number| style("baseline", number)));
        styles.extend((0..4).map(|number| style("lossless", number)));
        for (at, a) in styles.iter().enumerate() {
            assert!(styles[..at].iter().all(|b| a != b), "{a:?}");
        }
    }
}
