//! Statistics in JSON, under the names of this project and under those other tools read.

use super::{args::ModelArgs, failure::Failure};
use drafthorse::{
    AcceptanceRule, DraftLength, Finish, Provenance, SamplingOptions, Stats, StepToken,
    cost::{CostMeter, RowCost},
    drafter::PartCounts,
    inspect::Names,
    logits::processors::MirostatVersion,
    model::threads,
};
use serde::Serialize;
use serde_json::{Value, json};
use std::io::Write;

/// Prints one object on a line.
pub(crate) fn print(object: &impl Serialize) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    serde_json::to_writer(&mut out, object)?;
    Ok(writeln!(out)?)
}

/// A number where it is one, else its text.
pub(crate) fn length(length: &DraftLength) -> Value {
    match length {
        DraftLength::Fixed(tokens) => json!(tokens),
        other => json!(other.to_string()),
    }
}

/// What one of several drafters did.
pub(crate) fn part(part: &PartCounts) -> Value {
    json!({
        "name": part.name,
        "asked": part.asked,
        "used": part.used,
        "drafted": part.drafted,
        "examined": part.examined,
        "accepted": part.accepted,
        "tokens_per_second": part.tokens_per_second,
    })
}

#[derive(Serialize)]
pub(crate) struct StatsJson {
    rounds: u64,
    drafted: u64,
    examined: u64,
    accepted: u64,
    /// Tokens that a grammar forced, which are no drafts.
    forced: u64,
    forced_accepted: u64,
    emitted: u64,
    replaced: u64,
    bonus: u64,
    acceptance_rate: Option<f64>,
    draft_yield: Option<f64>,
    tokens_per_expert_pass: Option<f64>,
    tokens_per_second: Option<f64>,
    rejection_rate: Option<f64>,
    /// What a rule that is not lossless did to the text.
    #[serde(skip_serializing_if = "Option::is_none")]
    price: Option<PriceJson>,
    prompt_seconds: f64,
    draft_seconds: f64,
    verify_seconds: f64,
    other_seconds: f64,
    /// The counters of vLLM, which llama.cpp and several load generators read too.
    metrics: Metrics,
}

#[derive(Serialize)]
struct PriceJson {
    /// Share of the drafted positions at which the rule asked the expert; `None` if it always does.
    deferral_rate: Option<f64>,
    deferred: u64,
    /// Drafted tokens the drafter decided alone.
    draft_decided: Option<u64>,
    /// Means along the text, of the rule's law against the expert's.
    mean_total_variation: Option<f64>,
    /// `None` if it is infinite.
    mean_kl_nats: Option<f64>,
    /// Over the positions where it is finite.
    mean_finite_kl_nats: Option<f64>,
    positions: u64,
    /// Positions at which the divergence is infinite.
    positions_unsupported: u64,
}

impl PriceJson {
    fn new(stats: &Stats) -> Option<Self> {
        (stats.price.positions > 0).then(|| Self {
            deferral_rate: stats.deferral_rate(),
            deferred: stats.price.deferred,
            draft_decided: stats.draft_decided(),
            mean_total_variation: stats.mean_total_variation(),
            mean_kl_nats: stats.mean_kl().filter(|mean| mean.is_finite()),
            mean_finite_kl_nats: stats.mean_finite_kl(),
            positions: stats.price.positions,
            positions_unsupported: stats.price.unsupported,
        })
    }
}

#[derive(Serialize)]
#[allow(clippy::struct_field_names, reason = "the names are given")]
struct Metrics {
    spec_decode_num_drafts: u64,
    spec_decode_num_draft_tokens: u64,
    spec_decode_num_accepted_tokens: u64,
    spec_decode_num_accepted_tokens_per_pos: Vec<u64>,
}

impl From<&Stats> for StatsJson {
    fn from(stats: &Stats) -> Self {
        Self {
            rounds: stats.rounds,
            drafted: stats.drafted,
            examined: stats.examined,
            accepted: stats.accepted,
            forced: stats.forced,
            forced_accepted: stats.forced_accepted,
            emitted: stats.emitted,
            replaced: stats.replaced,
            bonus: stats.bonus,
            acceptance_rate: stats.acceptance_rate(),
            draft_yield: stats.draft_yield(),
            tokens_per_expert_pass: stats.tokens_per_expert_pass(),
            tokens_per_second: stats.tokens_per_second(),
            rejection_rate: stats.rejection_rate(),
            price: PriceJson::new(stats),
            prompt_seconds: stats.prompt_time.as_secs_f64(),
            draft_seconds: stats.draft_time.as_secs_f64(),
            verify_seconds: stats.verify_time.as_secs_f64(),
            other_seconds: stats.other_time.as_secs_f64(),
            metrics: Metrics {
                spec_decode_num_drafts: stats.rounds_with_draft,
                spec_decode_num_draft_tokens: stats.drafted,
                spec_decode_num_accepted_tokens: stats.accepted,
                spec_decode_num_accepted_tokens_per_pos: stats.accepted_at.clone(),
            },
        }
    }
}

/// What was measured of forwards apart from any engine.
#[derive(Serialize)]
pub(crate) struct CostsJson {
    /// Tokens in the cache before each forward.
    cache_length: usize,
    /// How often everything was measured; the best times count.
    sweeps: usize,
    forwards: Vec<ForwardJson>,
    /// For each drafter that is a model: the costs of rounds with its steps.
    with_drafters: Vec<DrafterJson>,
}

#[derive(Serialize)]
struct DrafterJson {
    drafter: String,
    rounds: Vec<RoundJson>,
}

#[derive(Serialize)]
struct ForwardJson {
    rows: usize,
    seconds: f64,
    /// Time / time of a forward of one row.
    cost: f64,
    /// Rows per second over those of a forward of one row.
    rows_per_second: f64,
}

/// In forwards of one row.
#[derive(Serialize)]
struct RoundJson {
    rows: usize,
    verify: f64,
    draft: f64,
}

impl CostsJson {
    /// With the names of the meter's drafters.
    pub(crate) fn new<'a>(meter: &CostMeter, names: impl Iterator<Item = &'a str>) -> Self {
        let free = meter.free();
        let forward = |(rows, time): (usize, std::time::Duration)| {
            let cost = free.as_ref()?.verify(rows);
            Some(ForwardJson { rows, seconds: time.as_secs_f64(), cost, rows_per_second: rows as f64 / cost })
        };
        let round = |p: &RowCost| RoundJson { rows: p.rows, verify: p.verify, draft: p.draft };
        let drafter = |(number, name): (usize, &str)| {
            let costs = meter.with_drafter(number)?;
            Some(DrafterJson { drafter: name.to_owned(), rounds: costs.points().iter().map(round).collect() })
        };
        Self {
            cache_length: meter.length(),
            sweeps: meter.sweeps(),
            forwards: meter.forwards().into_iter().filter_map(forward).collect(),
            with_drafters: names.enumerate().filter_map(drafter).collect(),
        }
    }
}

/// A rule with its dials and what it promises.
pub(crate) fn rule(rule: &dyn AcceptanceRule) -> Value {
    let dials = rule.settings().into_iter().map(|(dial, value)| (dial.name.to_owned(), json!(value)));
    json!({ "name": rule.name(), "promise": rule.kind().label(), "dials": Value::Object(dials.collect()) })
}

/// How tokens were sampled, by the names of the options.
pub(crate) fn sampling(options: &SamplingOptions) -> Value {
    let bias = options.logit_bias.iter().map(|(token, bias)| {
        // JSON has no infinity.
        json!({ "token": token, "bias": if bias.is_finite() { json!(bias) } else { json!(bias.to_string()) } })
    });
    let mirostat = options.mirostat.map(|mirostat| {
        let version = if mirostat.version == MirostatVersion::V1 { 1 } else { 2 };
        json!({ "version": version, "tau": mirostat.tau, "eta": mirostat.eta })
    });
    json!({
        "logit_bias": bias.collect::<Vec<_>>(),
        "repetition_penalty": options.repetition_penalty,
        "presence_penalty": options.presence_penalty,
        "frequency_penalty": options.frequency_penalty,
        "penalty_last_n": options.penalty_last_n,
        "dry": {
            "multiplier": options.dry.multiplier,
            "base": options.dry.base,
            "allowed_length": options.dry.allowed_length,
            "last_n": options.dry.last_n,
            "breakers": options.dry.breakers,
        },
        "no_repeat_ngram": options.no_repeat_ngram,
        "bad_words": options.bad_words,
        "min_tokens": options.min_tokens,
        "forced_first": options.forced_first,
        "forced_last": options.forced_last.map(|(length, token)| json!({ "length": length, "token": token })),
        "temperature": options.temperature,
        "dynatemp_range": options.dynatemp_range,
        "dynatemp_exponent": options.dynatemp_exponent,
        "top_k": options.top_k,
        "top_p": options.top_p,
        "min_p": options.min_p,
        "typical_p": options.typical_p,
        "epsilon": options.epsilon,
        "eta": options.eta,
        "top_n_sigma": options.top_n_sigma,
        "xtc_probability": options.xtc_probability,
        "xtc_threshold": options.xtc_threshold,
        "mirostat": mirostat,
        "order": options.order.to_string(),
    })
}

/// A token of a text, with its log-probabilities if they were wanted. Without a tokenizer there are no texts.
pub(crate) fn token(token: &StepToken, names: Option<&Names>) -> Value {
    let text = names.map(|_| &token.text);
    let mut object = json!({ "id": token.id, "text": text, "provenance": provenance(token.provenance) });
    if let Some(found) = &token.log_probs {
        let top = found.top.iter().map(|(token, logprob)| {
            json!({ "id": token, "text": names.map(|names| names.name(*token)), "logprob": logprob })
        });
        object["logprob"] = finite(found.chosen);
        object["rank"] = json!(found.rank);
        object["top_logprobs"] = top.collect();
    }
    object
}

/// JSON has no infinity.
fn finite(number: f64) -> Value {
    if number.is_finite() { json!(number) } else { Value::Null }
}

fn provenance(provenance: Provenance) -> &'static str {
    match provenance {
        Provenance::Drafted => "drafted",
        Provenance::Forced => "forced",
        Provenance::Deferred => "deferred",
        Provenance::Replacement => "replacement",
        Provenance::Bonus => "bonus",
    }
}

/// Why a text ended, as a word and what it was.
pub(crate) fn finish(finish: Option<&Finish>) -> Value {
    match finish {
        None => json!({ "reason": "interrupted" }),
        Some(Finish::StopToken(token)) => json!({ "reason": "stop_token", "token": token }),
        Some(Finish::StopString(text)) => json!({ "reason": "stop_string", "string": text }),
        Some(Finish::Grammar) => json!({ "reason": "grammar" }),
        Some(Finish::MaxTokens) => json!({ "reason": "max_tokens" }),
        Some(Finish::ContextEnd) => json!({ "reason": "context_end" }),
        Some(Finish::Unsure { confidence }) => json!({ "reason": "unsure", "confidence": confidence }),
        Some(_) => json!({ "reason": "other" }),
    }
}

/// The version of Burn that the workspace pins.
const BURN: &str = "0.22.1";

/// Where and how something was measured.
#[derive(Serialize)]
pub(crate) struct Machine {
    version: &'static str,
    burn: &'static str,
    command: Vec<String>,
    os: &'static str,
    architecture: &'static str,
    cpu: Option<String>,
    threads: usize,
    device: String,
    weights: &'static str,
    draft_weights: &'static str,
    cache_type: &'static str,
}

impl Machine {
    pub(crate) fn new(device: String, models: &ModelArgs) -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION"),
            burn: BURN,
            command: std::env::args().collect(),
            os: std::env::consts::OS,
            architecture: std::env::consts::ARCH,
            cpu: cpu_name(),
            threads: threads(),
            device,
            weights: models.load_options(false).weights.name(),
            draft_weights: models.load_options(true).weights.name(),
            cache_type: models.load_options(false).cache.name(),
        }
    }
}

/// The processor's name, where the system has a file that says it.
fn cpu_name() -> Option<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_version_of_burn_is_the_pinned_one() {
        let manifest = include_str!("../../Cargo.toml");
        assert!(manifest.contains(&format!("burn = {{ version = \"={}\"", super::BURN)));
    }
}
