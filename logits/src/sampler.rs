use crate::{
    Context, LogitsError, LogitsProcessor, Memory, SamplingOptions, Scores, TokenId,
    buffer::Buffer,
    candidates::Place,
    math,
    order::Stage,
    processors::{
        BadWords, DynamicTemperature, Epsilon, Eta, Forced, LogitBias, MinP, MinTokens, Mirostat,
        NoRepeatNgram, PresenceFrequency, Repetition, TopK, TopNSigma, TopP, Typical,
    },
    scores::Warp,
    warp::Step,
};
use std::sync::Arc;

/// Turns a row of logits into [`Scores`]; the only place that knows the order of the processors.
///
/// 1. Stages that make the law, then processors added by the user: with these the row is the model's law at
///    temperature 1, [`Scores::raw`];
/// 2. stages that change how it is sampled: [`Scores::probs`].
///
/// The order within the two is [`SamplingOptions::order`]. Drafter and expert use the same sampler.
#[derive(Clone)]
pub struct Sampler {
    law: Vec<Arc<dyn LogitsProcessor>>,
    steps: Arc<[Step]>,
    temperature: f32,
    mirostat: Option<Mirostat>,
    seed: u64,
    /// The highest token that an option names.
    highest: Option<(TokenId, &'static str)>,
}

impl std::fmt::Debug for Sampler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (law, steps) = (self.law.len(), self.steps.len());
        write!(f, "Sampler {{ {law} + {steps} processors, temperature {} }}", self.temperature)
    }
}

impl Sampler {
    /// A sampler with these options.
    ///
    /// # Errors
    ///
    /// The first option outside its range, options that do not go together, and a stage that is on but missing
    /// from the order.
    pub fn new(options: &SamplingOptions) -> Result<Self, LogitsError> {
        options.check()?;
        let on = || options.order.stages().iter().filter(|stage| options.is_on(**stage));
        Ok(Self {
            law: on().flat_map(|stage| law(*stage, options)).collect(),
            steps: on().filter_map(|stage| step(*stage, options)).collect(),
            temperature: options.temperature,
            mirostat: options.mirostat.filter(|_| options.temperature > 0.0),
            seed: 0,
            highest: highest(options),
        })
    }

    /// The same sampler with the coins of a seed ([`Xtc`](crate::processors::Xtc)).
    #[must_use]
    pub fn seeded(self, seed: u64) -> Self {
        Self { seed, ..self }
    }

    /// Adds a processor of the user's, after all that make the law and before all that change how it is sampled.
    #[must_use]
    pub fn with_processor(mut self, processor: impl LogitsProcessor + 'static) -> Self {
        self.law.push(Arc::new(processor));
        self
    }

    /// Whether the options speak only of tokens below `vocab`.
    ///
    /// # Errors
    ///
    /// [`LogitsError::UnknownToken`]: an option names a token beyond.
    pub fn check_vocabulary(&self, vocab: usize) -> Result<(), LogitsError> {
        match self.highest.filter(|(token, _)| *token as usize >= vocab) {
            Some((token, option)) => Err(LogitsError::UnknownToken { option, token, vocab }),
            None => Ok(()),
        }
    }

    /// Whether all its processors are pure ([`LogitsProcessor::is_pure`]).
    pub fn is_pure(&self) -> bool {
        self.law.iter().all(LogitsProcessor::is_pure)
    }

    /// Whether this is a clone of `other`, so that both say the same of every row. Two that were made from the same
    /// options may or may not be.
    pub fn is_same(&self, other: &Self) -> bool {
        let same = |(a, b): (&Arc<dyn LogitsProcessor>, &Arc<dyn LogitsProcessor>)| Arc::ptr_eq(a, b);
        let law = self.law.len() == other.law.len() && self.law.iter().zip(&other.law).all(same);
        law && Arc::ptr_eq(&self.steps, &other.steps)
            && self.temperature == other.temperature
            && (self.mirostat, self.seed, self.highest) == (other.mirostat, other.seed, other.highest)
    }

    /// Whether every distribution is a point mass (temperature 0).
    pub fn is_greedy(&self) -> bool {
        self.temperature == 0.0
    }

    /// The temperature, where nothing else happens to a row: no bias, no penalty, no filter, no processor
    /// of the user's. A [`RowQuestion`](crate::RowQuestion) then says of a row what the scores say.
    pub fn temperature_alone(&self) -> Option<f32> {
        let alone = matches!(self.steps[..], [] | [Step::Temperature(_)]);
        (self.law.is_empty() && alone).then_some(self.temperature)
    }

    /// Whether a row is its most probable token and nothing else matters: temperature 0 alone.
    pub fn is_argmax(&self) -> bool {
        self.temperature_alone() == Some(0.0)
    }

    /// The memory before the first token of a text; off where nothing has to be remembered.
    pub fn memory(&self) -> Memory {
        self.mirostat.map_or(Memory::off(), |mirostat| mirostat.start())
    }

    /// The memory after `token`, which followed a context with this memory and these scores.
    #[must_use]
    pub fn remember(&self, memory: Memory, scores: &Scores, token: TokenId) -> Memory {
        match self.mirostat {
            Some(mirostat) if memory != Memory::off() => mirostat.after(memory, scores.prob(token)),
            _ => memory,
        }
    }

    /// What `row`, the logits after `context`, says.
    ///
    /// # Errors
    ///
    /// A NaN or `+inf` among the logits, a row in which every token is excluded, or an option that names a token
    /// that the row does not have.
    pub fn scores(&self, context: &Context<'_>, row: &[f32]) -> Result<Scores, LogitsError> {
        self.check_vocabulary(row.len())?;
        math::check(row)?;
        let mut row = Buffer::copy(row);
        for processor in &self.law {
            processor.process(context, row.as_mut_slice());
        }
        if !self.law.is_empty() {
            math::check(&row)?;
        }
        let warp = match &self.steps[..] {
            _ if self.is_greedy() => Warp::Given,
            [] => Warp::None,
            [Step::Temperature(temperature)] => Warp::Temperature(*temperature),
            _ => Warp::Steps(self.steps.clone(), Place::of(context, self.seed)),
        };
        Ok(Scores::new(row, warp))
    }
}

/// The processors of a stage that makes the law.
fn law(stage: Stage, options: &SamplingOptions) -> Vec<Arc<dyn LogitsProcessor>> {
    let last_n = options.penalty_last_n;
    match stage {
        Stage::LogitBias => vec![Arc::new(LogitBias(options.logit_bias.clone()))],
        Stage::Penalties => {
            let mut penalties: Vec<Arc<dyn LogitsProcessor>> = Vec::new();
            let penalty = options.repetition_penalty;
            if penalty != 1.0 {
                penalties.push(Arc::new(Repetition { penalty, last_n }));
            }
            let (presence, frequency) = (options.presence_penalty, options.frequency_penalty);
            if presence != 0.0 || frequency != 0.0 {
                penalties.push(Arc::new(PresenceFrequency { presence, frequency, last_n }));
            }
            penalties
        }
        Stage::Dry => vec![Arc::new(options.dry.ready())],
        Stage::NoRepeatNgram => vec![Arc::new(NoRepeatNgram(options.no_repeat_ngram))],
        Stage::BadWords => vec![Arc::new(BadWords(options.bad_words.clone()))],
        Stage::MinTokens => {
            let (tokens, ends) = (options.min_tokens, options.end_tokens.clone());
            vec![Arc::new(MinTokens { tokens, ends })]
        }
        Stage::Forced => vec![Arc::new(Forced { first: options.forced_first, last: options.forced_last })],
        _ => Vec::new(),
    }
}

/// The step of a stage that changes how the law is sampled.
fn step(stage: Stage, options: &SamplingOptions) -> Option<Step> {
    Some(match stage {
        Stage::Temperature if options.dynatemp_range > 0.0 => Step::Dynamic(DynamicTemperature {
            temperature: options.temperature,
            range: options.dynatemp_range,
            exponent: options.dynatemp_exponent,
        }),
        Stage::Temperature => Step::Temperature(options.temperature),
        Stage::TopK => Step::keep(TopK(options.top_k)),
        Stage::TopP => Step::keep(TopP(options.top_p)),
        Stage::MinP => Step::keep(MinP(options.min_p)),
        Stage::Typical => Step::keep(Typical(options.typical_p)),
        Stage::Epsilon => Step::keep(Epsilon(options.epsilon)),
        Stage::Eta => Step::keep(Eta(options.eta)),
        Stage::TopNSigma => Step::keep(TopNSigma(options.top_n_sigma)),
        Stage::Xtc => Step::keep(options.xtc()),
        Stage::Mirostat => Step::keep(options.mirostat?),
        _ => return None,
    })
}

/// The highest token that the options name, and which of them does.
fn highest(options: &SamplingOptions) -> Option<(TokenId, &'static str)> {
    let biased = options.logit_bias.iter().map(|&(token, _)| (token, "logit bias"));
    let words = options.bad_words.iter().flatten().map(|&token| (token, "bad word"));
    let breakers = options.dry.breakers.iter().flatten().map(|&token| (token, "DRY breaker"));
    let ends = options.end_tokens.iter().map(|&token| (token, "end token"));
    let ends = ends.filter(|_| options.min_tokens > 0);
    let forced = options.forced_first.into_iter().chain(options.forced_last.map(|(_, token)| token));
    let forced = forced.map(|token| (token, "forced token"));
    biased.chain(words).chain(breakers).chain(ends).chain(forced).max_by_key(|(token, _)| *token)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::processors::Temperature;

    fn sampler(options: &SamplingOptions) -> Sampler {
        Sampler::new(options).unwrap()
    }

    fn probs(options: &SamplingOptions, row: &[f32]) -> Vec<f64> {
        sampler(options).scores(&Context::new(&[], 0), row).unwrap().probs().to_vec()
    }

    #[test]
    fn greedy_is_a_point_mass_on_the_lowest_best_token() {
        assert_eq!(probs(&SamplingOptions::default(), &[1.0, 5.0, 5.0]), [0.0, 1.0, 0.0]);
    }

    #[test]
    fn raw_sees_the_bias_but_neither_temperature_nor_truncation() {
        let options = SamplingOptions {
            logit_bias: vec![(0, f32::NEG_INFINITY)],
            temperature: 0.5,
            top_k: 1,
            ..Default::default()
        };
        let scores = sampler(&options).scores(&Context::new(&[], 0), &[9.0, 0.0, 1.0]).unwrap();
        assert_eq!(scores.probs().to_vec(), [0.0, 0.0, 1.0]);
        assert_eq!(scores.raw().get(0), 0.0);
        assert!((scores.raw().get(2) / scores.raw().get(1) - 1f64.exp()).abs() < 1e-12);
    }

    #[test]
    fn temperature_comes_before_top_p() {
        let row = [0.6f32, 0.4].map(f32::ln);
        let with =
            |temperature| probs(&SamplingOptions { temperature, top_p: 0.65, ..Default::default() }, &row);
        assert!(with(1.0)[1] > 0.0, "0.6 alone does not reach 0.65");
        assert_eq!(with(0.5), [1.0, 0.0], "at temperature 0.5 the first token has 0.69");
    }

    #[test]
    fn unusable_rows_and_biases_are_refused() {
        let refuse = |options: SamplingOptions, row: &[f32]| {
            sampler(&options).scores(&Context::new(&[], 0), row).unwrap_err()
        };
        let d = SamplingOptions::default;
        assert!(matches!(refuse(d(), &[f32::NAN]), LogitsError::NotFinite { .. }));
        let ban = SamplingOptions { logit_bias: vec![(0, f32::NEG_INFINITY)], ..d() };
        assert_eq!(refuse(ban, &[1.0]), LogitsError::NothingLeft { vocab: 1 });
        let outside = SamplingOptions { logit_bias: vec![(3, 1.0)], ..d() };
        assert_eq!(
            refuse(outside, &[1.0]),
            LogitsError::UnknownToken { option: "logit bias", token: 3, vocab: 1 }
        );
    }

    #[test]
    fn a_temperature_is_alone_only_where_nothing_else_is() {
        let d = SamplingOptions::default;
        for temperature in [0.0, 0.7, 1.0, 1.3] {
            let alone = SamplingOptions { temperature, ..d() };
            assert_eq!(sampler(&alone).temperature_alone(), Some(temperature));
            assert_eq!(sampler(&alone).is_argmax(), temperature == 0.0);
            let with = |change: fn(&mut SamplingOptions)| {
                let mut options = alone.clone();
                change(&mut options);
                sampler(&options).temperature_alone()
            };
            assert_eq!(with(|o| o.logit_bias = vec![(0, 1.0)]), None);
            assert_eq!(with(|o| o.repetition_penalty = 1.1), None);
            assert_eq!(with(|o| o.presence_penalty = 0.1), None);
            assert_eq!(with(|o| o.frequency_penalty = 0.1), None);
            // Filters change nothing of a point mass.
            let filtered = (temperature == 0.0).then_some(0.0);
            assert_eq!(with(|o| o.top_k = 3), filtered);
            assert_eq!(with(|o| o.top_p = 0.9), filtered);
            assert_eq!(with(|o| o.min_p = 0.1), filtered);
            assert_eq!(sampler(&alone).with_processor(Temperature(2.0)).temperature_alone(), None);
        }
    }

    #[test]
    fn the_same_are_clones() {
        struct Notes;
        impl LogitsProcessor for Notes {
            fn process(&self, _: &Context<'_>, _: &mut [f32]) {}
        }
        let options = SamplingOptions { top_k: 3, temperature: 0.5, ..Default::default() };
        let one = sampler(&options);
        let user = one.clone().with_processor(Temperature(2.0));
        assert!(one.is_same(&one.clone()) && user.is_same(&user.clone()));
        assert!(!one.is_same(&user) && !one.is_same(&one.clone().seeded(9)));
        assert!(
            !user.is_same(&one.clone().with_processor(Temperature(3.0))),
            "processors are not looked into"
        );
        assert!(!one.is_same(&sampler(&SamplingOptions { top_k: 4, ..options })));
        assert!(user.is_pure(), "what is built in says so");
        assert!(!user.with_processor(Arc::new(Notes)).is_pure(), "who says nothing may take notes");
    }

    #[test]
    fn a_processor_of_the_user_runs_for_the_raw_law() {
        struct Ban(usize);
        impl LogitsProcessor for Ban {
            fn process(&self, _: &Context<'_>, row: &mut [f32]) {
                row[self.0] = f32::NEG_INFINITY;
            }
        }
        let scores = sampler(&SamplingOptions::default()).with_processor(Ban(1));
        let scores = scores.scores(&Context::new(&[], 0), &[0.0, 9.0]).unwrap();
        assert_eq!((scores.probs().as_point(), scores.raw().get(1)), (Some(0), 0.0));
    }
}
