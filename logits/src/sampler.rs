use crate::{
    Context, LogitsError, LogitsProcessor, Scores, TokenId,
    buffer::Buffer,
    math,
    processors::{LogitBias, MinP, PresenceFrequency, Repetition, Temperature, TopK, TopP},
    scores::Warp,
};
use std::sync::Arc;

/// How tokens are sampled. The default is greedy decoding.
///
/// The processors run in the order of the fields.
#[derive(Clone, Debug, PartialEq)]
#[allow(clippy::exhaustive_structs)]
pub struct SamplingOptions {
    /// Added to the logits of single tokens; `-inf` bans a token.
    pub logit_bias: Vec<(TokenId, f32)>,
    /// Repetition penalty over prompt and text, above 0; 1 is off.
    pub repetition_penalty: f32,
    /// Presence penalty over generated tokens; 0 is off.
    pub presence_penalty: f32,
    /// Frequency penalty over generated tokens; 0 is off.
    pub frequency_penalty: f32,
    /// 0 is greedy: a point mass on the most probable token, the lowest id among equals.
    pub temperature: f32,
    /// Keep this many most probable tokens; 0 is off.
    pub top_k: usize,
    /// Keep the most probable tokens up to this mass, in (0, 1]; 1 is off.
    pub top_p: f64,
    /// Keep tokens at least this share as probable as the most probable, in [0, 1]; 0 is off.
    pub min_p: f64,
}

impl Default for SamplingOptions {
    fn default() -> Self {
        Self {
            logit_bias: Vec::new(),
            repetition_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
        }
    }
}

impl SamplingOptions {
    fn check(&self) -> Result<(), LogitsError> {
        let range = |name, value: f64, ok: bool, range| {
            if ok { Ok(()) } else { Err(LogitsError::OutOfRange { name, value, range }) }
        };
        let finite = "a finite number";
        let (t, r) = (self.temperature, self.repetition_penalty);
        range("temperature", t.into(), t.is_finite() && t >= 0.0, "0 (greedy) or a finite number above 0")?;
        range("repetition penalty", r.into(), r.is_finite() && r > 0.0, "above 0 (1 is off)")?;
        for (name, x) in
            [("presence penalty", self.presence_penalty), ("frequency penalty", self.frequency_penalty)]
        {
            range(name, x.into(), x.is_finite(), finite)?;
        }
        range(
            "top-p",
            self.top_p,
            self.top_p > 0.0 && self.top_p <= 1.0,
            "above 0 and at most 1 (1 is off)",
        )?;
        range("min-p", self.min_p, (0.0..=1.0).contains(&self.min_p), "0 (off) to 1")?;
        for &(_, bias) in &self.logit_bias {
            range(
                "logit bias",
                bias.into(),
                !bias.is_nan() && bias < f32::INFINITY,
                "a number or -inf (bans the token)",
            )?;
        }
        Ok(())
    }
}

/// Turns a row of logits into [`Scores`]; the only place that knows the order of the processors.
///
/// 1. logit bias, repetition penalty, presence and frequency penalties, then processors added by the
///    user: with these the row is the model's law at temperature 1, [`Scores::raw`];
/// 2. temperature, top-k, top-p, min-p: the law that is sampled, [`Scores::probs`].
///
/// This is the order of Hugging Face transformers. Drafter and expert use the same sampler.
#[derive(Clone)]
pub struct Sampler {
    law: Vec<Arc<dyn LogitsProcessor>>,
    /// None of them looks at the context, and each leaves at least one token.
    warp: Arc<Vec<Arc<dyn LogitsProcessor>>>,
    temperature: f32,
    highest_bias: Option<TokenId>,
}

impl std::fmt::Debug for Sampler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (law, warp) = (self.law.len(), self.warp.len());
        write!(f, "Sampler {{ {law} + {warp} processors, temperature {} }}", self.temperature)
    }
}

impl Sampler {
    /// A sampler with these options.
    ///
    /// # Errors
    ///
    /// [`LogitsError::OutOfRange`] names the first option outside its range.
    pub fn new(options: &SamplingOptions) -> Result<Self, LogitsError> {
        options.check()?;
        let mut law: Vec<Arc<dyn LogitsProcessor>> = Vec::new();
        let mut warp: Vec<Arc<dyn LogitsProcessor>> = Vec::new();
        if !options.logit_bias.is_empty() {
            law.push(Arc::new(LogitBias(options.logit_bias.clone())));
        }
        if options.repetition_penalty != 1.0 {
            law.push(Arc::new(Repetition(options.repetition_penalty)));
        }
        let (presence, frequency) = (options.presence_penalty, options.frequency_penalty);
        if presence != 0.0 || frequency != 0.0 {
            law.push(Arc::new(PresenceFrequency { presence, frequency }));
        }
        let temperature = options.temperature;
        if temperature != 0.0 {
            if temperature != 1.0 {
                warp.push(Arc::new(Temperature(temperature)));
            }
            if options.top_k > 0 {
                warp.push(Arc::new(TopK(options.top_k)));
            }
            if options.top_p < 1.0 {
                warp.push(Arc::new(TopP(options.top_p)));
            }
            if options.min_p > 0.0 {
                warp.push(Arc::new(MinP(options.min_p)));
            }
        }
        let highest_bias = options.logit_bias.iter().map(|&(token, _)| token).max();
        Ok(Self { law, warp: Arc::new(warp), temperature, highest_bias })
    }

    /// Adds a processor of the user's, after the penalties and before the temperature.
    #[must_use]
    pub fn with_processor(mut self, processor: impl LogitsProcessor + 'static) -> Self {
        self.law.push(Arc::new(processor));
        self
    }

    /// Whether the options speak only of tokens below `vocab`.
    ///
    /// # Errors
    ///
    /// [`LogitsError::BiasToken`]: a bias for a token beyond.
    pub fn check_vocabulary(&self, vocab: usize) -> Result<(), LogitsError> {
        match self.highest_bias.filter(|&token| token as usize >= vocab) {
            Some(token) => Err(LogitsError::BiasToken { token, vocab }),
            None => Ok(()),
        }
    }

    /// Whether every distribution is a point mass (temperature 0).
    pub fn is_greedy(&self) -> bool {
        self.temperature == 0.0
    }

    /// The temperature, where nothing else happens to a row: no bias, no penalty, no filter, no processor
    /// of the user's. A [`RowQuestion`](crate::RowQuestion) then says of a row what the scores say.
    pub fn temperature_alone(&self) -> Option<f32> {
        let own = usize::from(self.temperature != 0.0 && self.temperature != 1.0);
        (self.law.is_empty() && self.warp.len() == own).then_some(self.temperature)
    }

    /// Whether a row is its most probable token and nothing else matters: temperature 0 alone.
    pub fn is_argmax(&self) -> bool {
        self.temperature_alone() == Some(0.0)
    }

    /// What `row`, the logits after `context`, says.
    ///
    /// # Errors
    ///
    /// A NaN or `+inf` among the logits, a row in which every token is excluded, or a bias for a token
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
        let warp = match &self.warp {
            _ if self.is_greedy() => Warp::Given,
            warp if warp.len() == 1 && self.temperature != 1.0 => Warp::Temperature(self.temperature),
            warp if warp.is_empty() => Warp::None,
            warp => Warp::Processors(warp.clone()),
        };
        Ok(Scores::new(row, warp))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn options_out_of_range_are_named() {
        let bad = |options: SamplingOptions| Sampler::new(&options).unwrap_err().to_string();
        let d = SamplingOptions::default;
        assert!(
            bad(SamplingOptions { temperature: -1.0, ..d() }).starts_with("temperature -1 is out of range")
        );
        assert!(bad(SamplingOptions { temperature: f32::NAN, ..d() }).contains("temperature NaN"));
        assert!(bad(SamplingOptions { top_p: 1.5, ..d() }).starts_with("top-p 1.5"));
        assert!(bad(SamplingOptions { top_p: 0.0, ..d() }).starts_with("top-p 0"));
        assert!(bad(SamplingOptions { min_p: -0.5, ..d() }).starts_with("min-p -0.5"));
        assert!(bad(SamplingOptions { repetition_penalty: 0.0, ..d() }).starts_with("repetition penalty 0"));
        assert!(
            bad(SamplingOptions { presence_penalty: f32::INFINITY, ..d() }).starts_with("presence penalty")
        );
        assert!(
            bad(SamplingOptions { logit_bias: vec![(0, f32::NAN)], ..d() }).starts_with("logit bias NaN")
        );
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
        assert_eq!(refuse(outside, &[1.0]), LogitsError::BiasToken { token: 3, vocab: 1 });
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
