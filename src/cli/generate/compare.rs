//! What `--compare` measures.

use crate::cli::{
    args::{GenerateArgs, is_plain},
    failure::Failure,
    interrupt::Interrupt,
    parts::{self, Expert, Parts},
};
use drafthorse::{AcceptanceRule, DraftLength, Kind, Lossless, SessionOptions, TokenId};
use std::sync::Arc;

/// Runs of each side.
const COMPARED: usize = 3;

/// Drafting and plain decoding side by side.
pub(super) struct Compared {
    pub(super) drafted: f64,
    pub(super) plain: f64,
    pub(super) same_text: bool,
    pub(super) runs: usize,
}

impl Compared {
    pub(super) fn speedup(&self) -> f64 {
        self.drafted / self.plain
    }

    pub(super) fn sentence(&self, drafts: &str, greedy: bool, rule: &dyn AcceptanceRule) -> String {
        let (speedup, runs) = (self.speedup(), self.runs);
        let text = match (self.same_text, rule.kind(), greedy) {
            (true, ..) => "same text".to_owned(),
            (false, Kind::Lossless, false) => "another text, as sampling allows".into(),
            (false, Kind::Lossless, true) => {
                "another text: the device rounds differently for more rows".into()
            }
            (false, ..) => format!("another text, as rule {} allows", rule.name()),
        };
        let verdict =
            if speedup < 1.0 { "; drafting does not pay here, use --k 0 or another drafter" } else { "" };
        format!(
            "speedup {speedup:.2}: {:.0} tokens/s with {drafts}, {:.0} with k = 0 (best of {runs} each, in turn; {text}){verdict}",
            self.drafted, self.plain
        )
    }
}

pub(super) fn compare(
    args: &GenerateArgs,
    parts: &Parts,
    expert: Expert<'_>,
    prompt: &[TokenId],
    options: &SessionOptions,
    interrupt: &Interrupt,
) -> Result<Option<Compared>, Failure> {
    let rule = options.rule.clone().unwrap_or_else(|| Arc::new(Lossless));
    let k = args.draft_length(&parts.drafter, &*rule);
    let timed = |k: DraftLength| {
        let tree = options.tree.clone().filter(|_| !is_plain(&k));
        let options = SessionOptions { tree, ..options.clone() };
        let engine = parts::engine(parts.drafter.begin(expert)?, &parts.expert, rule.clone(), k)?;
        let text = parts::measure(engine, prompt, &options, interrupt)?;
        Ok::<_, Failure>(text.map(|text| (text.stats.tokens_per_second().unwrap_or(0.0), text.tokens)))
    };
    let mut compared = Compared { drafted: 0.0, plain: 0.0, same_text: true, runs: 0 };
    while compared.runs < COMPARED {
        let (Some((speed, tokens)), Some((plain_speed, plain_tokens))) =
            (timed(k.clone())?, timed(0.into())?)
        else {
            break;
        };
        compared.drafted = compared.drafted.max(speed);
        compared.plain = compared.plain.max(plain_speed);
        compared.same_text &= tokens == plain_tokens;
        compared.runs += 1;
    }
    Ok((compared.runs > 0).then_some(compared))
}
