//! What is measured against plain decoding.

use crate::cli::{
    args::{BenchArgs, PartArgs, is_plain, parse_length},
    drafters::{self, DrafterPart},
    failure::Failure,
    output,
    parts::{self, Expert, Measured},
};
use drafthorse::{
    DraftLength, Engine, SyntheticDrafter, TokenId, Transformer,
    cost::{CostMeter, RoundCosts},
    engine::EngineBuilder,
    model::{CachedModel, SequenceModel},
};
use std::{collections::BTreeSet, fmt, str::FromStr, sync::Arc, time::Duration};

/// A drafter that agrees with the expert as often as is said.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Synthetic {
    acceptance: f64,
    /// Share of an expert's step that each of its tokens takes.
    cost: f64,
}

impl Synthetic {
    const DEFAULT_COST: f64 = 0.05;
}

impl FromStr for Synthetic {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (acceptance, cost) = text.split_once(':').unwrap_or((text, "0.05"));
        let number = |text: &str| text.parse::<f64>().ok();
        match (number(acceptance), number(cost)) {
            (Some(acceptance), Some(cost))
                if (0.0..=1.0).contains(&acceptance) && cost >= 0.0 && cost.is_finite() =>
            {
                Ok(Self { acceptance, cost })
            }
            _ => Err("write ACCEPTANCE or ACCEPTANCE:COST, for example 0.8 or 0.8:0.05, with an acceptance from 0 to 1 and a cost of 0 or more".into()),
        }
    }
}

impl fmt::Display for Synthetic {
    /// `synthetic .80`, and `synthetic .80:.20` with another cost than usual.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "synthetic {}", share(self.acceptance))?;
        if self.cost == Self::DEFAULT_COST { Ok(()) } else { write!(f, ":{}", share(self.cost)) }
    }
}

/// Draft lengths in a list.
#[derive(Clone, Debug)]
pub(crate) struct Lengths(pub(super) Vec<DraftLength>);

impl FromStr for Lengths {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // The comma before `max=` belongs to a length.
        let text = text.replace(",max=", ";max=");
        let length = |item: &str| parse_length(&item.trim().replace(';', ","));
        text.split(',').map(length).collect::<Result<_, _>>().map(Self)
    }
}

/// A share with two digits, or more where it has more, and no zero before the point.
pub(super) fn share(value: f64) -> String {
    let short = format!("{value:.2}");
    let text = if short.parse() == Ok(value) { short } else { value.to_string() };
    text.strip_prefix("0.").map_or(text.clone(), |digits| format!(".{digits}"))
}

/// Where the drafts of a setting come from.
#[derive(Clone)]
pub(super) enum Source {
    Part(DrafterPart),
    Synthetic(Synthetic),
}

/// A drafter with a draft length; the first of all is plain decoding.
pub(super) struct Setting {
    pub(super) name: String,
    pub(super) source: Source,
    pub(super) length: DraftLength,
    /// The number of its model among those a meter measures.
    meter: Option<usize>,
}

/// Plain decoding of a prompt, which synthetic drafters must know.
pub(super) struct Plain {
    pub(super) sequence: Vec<TokenId>,
    /// Time of an expert's step.
    pub(super) step: Duration,
    pub(super) seed: u64,
}

impl Plain {
    pub(super) fn new(prompt: &[TokenId], text: &Measured, seed: u64) -> Self {
        let step = text.stats.verify_time / text.stats.rounds.max(1) as u32;
        Self { sequence: [prompt, &text.tokens].concat(), step, seed }
    }
}

impl Setting {
    pub(super) fn is_plain(&self) -> bool {
        is_plain(&self.length)
    }

    pub(super) fn is_synthetic(&self) -> bool {
        matches!(self.source, Source::Synthetic(_))
    }

    /// The expert with a new drafter. Plain decoding comes first, and so is known where it is needed.
    pub(super) fn begin(
        &self,
        expert: &Arc<Transformer>,
        plain: Option<&Plain>,
    ) -> Result<EngineBuilder, Failure> {
        match (&self.source, plain) {
            (Source::Part(part), _) => part.begin(Expert::alone(expert)),
            (Source::Synthetic(synthetic), Some(plain)) => {
                let drafter = SyntheticDrafter::new(plain.sequence.clone(), synthetic.acceptance);
                let drafter = drafter.expect("the rate was checked when it was read");
                let step = plain.step.mul_f64(synthetic.cost);
                let drafter = drafter.with_step(step).with_seed(plain.seed).named(&self.name);
                Ok(Engine::builder().expert(expert.clone()).drafter(drafter))
            }
            (Source::Synthetic(_), None) => Ok(Engine::builder().expert(expert.clone())),
        }
    }

    /// What the engine is made of: where nothing is drafted, rules that need a drafter leave the word to the expert.
    pub(super) fn parts(&self, args: &PartArgs) -> Result<PartArgs, Failure> {
        let mut args = args.clone();
        if self.is_plain() && parts::acceptance_rule(&args)?.needs_calibrated_draft() {
            (args.rule, args.lenience) = (None, None);
        }
        Ok(args)
    }

    /// What its rounds cost by what was measured apart from the engine.
    pub(super) fn costs(&self, meter: &CostMeter) -> Option<RoundCosts> {
        match (self.meter, &self.source) {
            (Some(number), _) => meter.with_drafter(number),
            (None, Source::Synthetic(synthetic)) => Some(meter.free()?.with_draft_cost(synthetic.cost)),
            (None, Source::Part(part)) => meter.free().filter(|_| part.is_lookup()),
        }
    }
}

/// The drafters that were asked for, each once; without a name those that go with the expert.
pub(super) fn drafters(args: &BenchArgs, expert: &Arc<Transformer>) -> Result<Vec<DrafterPart>, Failure> {
    let default = match parts::default_drafter(&args.parts) {
        _ if !args.synthetic.is_empty() => Vec::new(),
        "ngram" => vec!["ngram".to_owned()],
        model if parts::acceptance_rule(&args.parts)?.needs_calibrated_draft() => {
            output::note("left out: ngram, which has no probabilities of its own, as the rule needs them");
            vec![model.to_owned()]
        }
        model => vec![model.to_owned(), "ngram".to_owned()],
    };
    let mut names = if args.drafter.is_empty() { default } else { args.drafter.clone() };
    let mut seen = BTreeSet::from(["none".to_owned()]);
    names.retain(|name| seen.insert(name.clone()));
    let calibrated = parts::acceptance_rule(&args.parts)?.needs_calibrated_draft();
    names.iter().map(|name| drafters::open(name, &args.parts.models, expert, calibrated)).collect()
}

/// Plain decoding, and every drafter with every draft length.
pub(super) fn settings(args: &BenchArgs, drafters: &[DrafterPart]) -> Result<Vec<Setting>, Failure> {
    let temperature = args.sampling.temperature;
    if temperature != 0.0 && !args.synthetic.is_empty() {
        return Err(Failure::new(format!(
            "--synthetic knows the text beforehand, which takes greedy decoding, and --temperature is {temperature}; use --temperature 0"
        )));
    }
    let mut lengths: Vec<DraftLength> = Vec::new();
    for length in args.draft_lengths.iter().flat_map(|list| &list.0) {
        if !is_plain(length) && !lengths.contains(length) {
            lengths.push(length.clone());
        }
    }
    let none = Source::Part(DrafterPart::none());
    let mut settings = vec![Setting { name: "none".into(), source: none, length: 0.into(), meter: None }];
    let mut models = 0..;
    let parts = drafters.iter().map(|part| {
        let meter = part.model().is_some().then(|| models.next()).flatten();
        (part.name().to_owned(), Source::Part(part.clone()), meter)
    });
    let mut seen = BTreeSet::new();
    let synthetic = args.synthetic.iter().map(|s| (s.to_string(), Source::Synthetic(*s), None));
    let synthetic = synthetic.filter(|(name, ..)| seen.insert(name.clone()));
    for (name, source, meter) in parts.chain(synthetic) {
        let with = |length| Setting { name: name.clone(), source: source.clone(), length, meter };
        settings.extend(lengths.iter().cloned().map(with));
    }
    Ok(settings)
}

/// The names of the drafters that a [`meter`] measures.
pub(super) fn measured(drafters: &[DrafterPart]) -> impl Iterator<Item = &str> {
    drafters.iter().filter(|part| part.model().is_some()).map(DrafterPart::name)
}

/// Measures what forwards of the expert cost, with each of these drafters that is a model.
pub(super) fn meter(
    expert: &Arc<Transformer>,
    drafters: &[DrafterPart],
    length: usize,
    rows: impl IntoIterator<Item = usize>,
) -> CostMeter {
    let cached =
        |model: &Arc<Transformer>| -> Box<dyn SequenceModel> { Box::new(CachedModel::new(model.clone())) };
    let models = drafters.iter().filter_map(DrafterPart::model).map(cached);
    CostMeter::new(cached(expert), models.collect(), length, rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_lengths_keep_their_order_and_greatest_lengths() {
        let list = |text: &str| {
            text.parse::<Lengths>().map(|l| l.0.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        assert_eq!(
            list("auto,3, confidence:0.4,max=8,1").unwrap(),
            ["auto", "3", "confidence:0.4,max=8", "1"]
        );
        assert!(list("1,,2").is_err() && list("-1").is_err() && list("max=3").is_err());
    }

    #[test]
    fn synthetic_drafters_are_read_and_labelled() {
        let label = |text: &str| text.parse::<Synthetic>().map(|synthetic| synthetic.to_string());
        assert_eq!(label("0.8").unwrap(), "synthetic .80");
        assert_eq!(label(".8:0.05").unwrap(), "synthetic .80");
        assert_eq!(label("0.855:0.2").unwrap(), "synthetic .855:.20");
        assert_eq!(label("1:0").unwrap(), "synthetic 1.00:.00");
        assert_eq!(label("0:1.5").unwrap(), "synthetic .00:1.50");
        for wrong in ["", "x", "1.1", "-0.1", "0.8:", "0.8:-1", "0.8:inf", "NaN", "0.8:0.1:2"] {
            assert!(label(wrong).unwrap_err().contains("write ACCEPTANCE"), "{wrong}");
        }
    }
}
