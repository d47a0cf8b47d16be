//! The points of a sweep: ways of writing, with their dials.

use crate::cli::failure::Failure;
use drafthorse::{AcceptanceRule, SequentialRule, verifier};
use std::{collections::BTreeSet, sync::Arc};

/// The names of what is no acceptance rule.
pub(super) const EXPERT: &str = "expert";
pub(super) const DRAFTER: &str = "drafter";
const TOKEN: &str = "token-cascade";
const SEQUENCE: &str = "sequence-cascade";

/// A way of writing a text.
pub(super) struct Point {
    /// By which it is known in files: `cascade-chow:lenience=0.2`.
    pub(super) id: String,
    /// What it shares with its neighbours on a curve: `cascade-chow`.
    pub(super) curve: String,
    /// What it promises of the text.
    pub(super) kind: &'static str,
    pub(super) dial: Option<&'static str>,
    pub(super) value: Option<f64>,
    pub(super) method: Method,
}

pub(super) enum Method {
    /// Plain decoding.
    Expert,
    Speculative(Arc<dyn AcceptanceRule>),
    Sequential(SequentialRule),
}

impl Point {
    fn alone(name: &str, method: Method) -> Self {
        let (id, curve) = (name.to_owned(), name.to_owned());
        Self { id, curve, kind: "baseline", dial: None, value: None, method }
    }

    /// The expert alone.
    pub(super) fn expert() -> Self {
        Self::alone(EXPERT, Method::Expert)
    }
}

/// Something with a dial, or without.
struct Known {
    name: &'static str,
    kind: &'static str,
    dial: Option<(&'static str, &'static [f64])>,
}

const SEQUENTIAL: [Known; 3] = [
    Known { name: DRAFTER, kind: "baseline", dial: None },
    Known {
        name: TOKEN,
        kind: "baseline",
        dial: Some(("lenience", &[0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9])),
    },
    Known {
        name: SEQUENCE,
        kind: "baseline",
        dial: Some(("threshold", &[0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6])),
    },
];

/// All that can be measured besides the expert.
fn known() -> impl Iterator<Item = Known> {
    let rules = verifier::RULES.iter().map(|info| Known {
        name: info.name,
        kind: info.kind.label(),
        dial: info.dials.first().map(|dial| (dial.name, dial.sweep)),
    });
    SEQUENTIAL.into_iter().chain(rules)
}

fn rule(spec: &str) -> Result<Arc<dyn AcceptanceRule>, Failure> {
    verifier::rule(spec).map_err(Failure::new)
}

/// The expert, and then what was asked for: all there is, or a list.
pub(super) fn points(list: Option<&str>) -> Result<Vec<Point>, Failure> {
    let mut points = vec![Point::expert()];
    match list {
        None => {
            for known in known() {
                points.extend(curve(known.name)?);
            }
        }
        Some(list) => {
            for spec in specs(list) {
                points.extend(curve(&spec)?);
            }
        }
    }
    let mut seen = BTreeSet::new();
    points.retain(|point| seen.insert(point.id.clone()));
    Ok(points)
}

/// The parts of a list in which `typical:threshold=0.1,alpha=0.3` is one part.
fn specs(list: &str) -> Vec<String> {
    let mut specs: Vec<String> = Vec::new();
    for part in list.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        match specs.last_mut() {
            Some(last) if part.contains('=') && !part.contains(':') => *last = format!("{last},{part}"),
            _ => specs.push(part.to_owned()),
        }
    }
    specs
}

/// A point, or where the main dial is not named, one for each of its values.
fn curve(spec: &str) -> Result<Vec<Point>, Failure> {
    let (name, settings) = spec.split_once(':').unwrap_or((spec, ""));
    if name == EXPERT {
        return Ok(Vec::new());
    }
    let Some(known) = known().find(|known| known.name == name) else {
        let names: Vec<_> = self::known().map(|known| known.name).collect();
        let names = names.join(", ");
        return Err(Failure::new(format!("there is no rule `{name}` to measure; there are {names}")));
    };
    let named = |dial: &str| {
        settings.split(',').find_map(|setting| setting.split_once('=').filter(|(name, _)| *name == dial))
    };
    let Some((dial, values)) = known.dial else {
        return Ok(vec![point(&known, spec, spec, None)?]);
    };
    if let Some((_, value)) = named(dial) {
        let value = value.parse().ok().filter(|value: &f64| value.is_finite()).ok_or_else(|| {
            Failure::new(format!("`{value}` is no value for {dial} of {name}; write {name}:{dial}=0.5"))
        })?;
        let others: Vec<_> =
            settings.split(',').filter(|setting| !setting.starts_with(&format!("{dial}="))).collect();
        let curve = if others.is_empty() { name.to_owned() } else { format!("{name}:{}", others.join(",")) };
        return Ok(vec![point(&known, spec, &curve, Some((dial, value)))?]);
    }
    let separator = if settings.is_empty() { ":" } else { "," };
    let at =
        |value: &f64| point(&known, &format!("{spec}{separator}{dial}={value}"), spec, Some((dial, *value)));
    values.iter().map(at).collect()
}

fn point(
    known: &Known,
    id: &str,
    curve: &str,
    setting: Option<(&'static str, f64)>,
) -> Result<Point, Failure> {
    let value = setting.map(|(_, value)| value);
    let method = match (known.name, value) {
        (DRAFTER, _) => Method::Sequential(SequentialRule::Token { lenience: 1.0 }),
        (TOKEN, Some(lenience)) => Method::Sequential(SequentialRule::Token { lenience }),
        (SEQUENCE, Some(threshold)) => Method::Sequential(SequentialRule::Sequence { threshold }),
        _ => Method::Speculative(rule(id)?),
    };
    Ok(Point {
        id: id.to_owned(),
        curve: curve.to_owned(),
        kind: known.kind,
        dial: setting.map(|(dial, _)| dial),
        value,
        method,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(list: &str) -> Vec<String> {
        points(Some(list)).map_err(|_| "refused").unwrap().into_iter().map(|point| point.id).collect()
    }

    #[test]
    fn lists_are_taken_apart() {
        let list = "typical:threshold=0.1,alpha=0.3, lossless,,top-k:k=3";
        assert_eq!(specs(list), ["typical:threshold=0.1,alpha=0.3", "lossless", "top-k:k=3"]);
    }

    #[test]
    fn a_name_is_a_curve_and_a_value_a_point() {
        assert_eq!(ids("lossless,expert,lossless"), ["expert", "lossless"]);
        let curve = ids("token-cascade");
        assert_eq!((curve.len(), curve[3].as_str()), (10, "token-cascade:lenience=0.3"));
        let point = points(Some("sequence-cascade:threshold=0.25")).map_err(|_| "refused").unwrap().remove(1);
        assert_eq!((point.curve.as_str(), point.value), ("sequence-cascade", Some(0.25)));
        let refused =
            ["wishful", "token-cascade:lenience=x", "token-cascade:lenience=inf", "drafter:x=1,wish"];
        for list in refused.iter().take(3) {
            assert!(points(Some(list)).is_err(), "{list}");
        }
    }

    #[test]
    fn without_a_list_there_is_all() {
        let points = points(None).map_err(|_| "refused").unwrap();
        for name in verifier::RULES.iter().map(|info| info.name).chain([EXPERT, DRAFTER, TOKEN, SEQUENCE]) {
            assert!(points.iter().any(|point| point.curve == name), "{name}");
        }
        let swept = |name: &str| points.iter().filter(|point| point.curve == name).count();
        assert!(swept(TOKEN) >= 9 && swept(SEQUENCE) >= 9);
    }
}
