use crate::{
    LogitsError, Order, TokenId,
    order::Stage,
    processors::{Dry, Mirostat, Xtc},
};

/// How tokens are sampled. The default is greedy decoding, with everything else off.
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
    /// How many of the last tokens the three penalties look at; 0 is all of them.
    pub penalty_last_n: usize,
    /// Penalty of going on with a repetition; multiplier 0 is off.
    pub dry: Dry,
    /// As many tokens in a row never come a second time, prompt included; 0 is off.
    pub no_repeat_ngram: usize,
    /// Sequences of tokens that never come.
    pub bad_words: Vec<Vec<TokenId>>,
    /// No token of `end_tokens` comes before the text has as many tokens; 0 is off.
    pub min_tokens: usize,
    /// Tokens that end a text. A session takes its stop tokens where there are none.
    pub end_tokens: Vec<TokenId>,
    /// The first token of the text.
    pub forced_first: Option<TokenId>,
    /// A length, and the last token of a text that gets so long.
    pub forced_last: Option<(usize, TokenId)>,
    /// 0 is greedy: a point mass on the most probable token, the lowest id among equals, whatever is chosen below.
    pub temperature: f32,
    /// How far the temperature goes up and down with the entropy of the row; 0 is off.
    pub dynatemp_range: f32,
    /// The curve of a dynamic temperature, above 0; 1 is a straight line.
    pub dynatemp_exponent: f32,
    /// Keep this many most probable tokens; 0 is off.
    pub top_k: usize,
    /// Keep the most probable tokens up to this mass, in (0, 1]; 1 is off.
    pub top_p: f64,
    /// Keep tokens at least this share as probable as the most probable, in [0, 1]; 0 is off.
    pub min_p: f64,
    /// Keep tokens about as surprising as can be expected, up to this mass, in (0, 1]; 1 is off.
    pub typical_p: f64,
    /// Keep tokens of at least this probability, in [0, 1); 0 is off.
    pub epsilon: f64,
    /// Keep tokens of at least this probability, or less where the entropy is high, in [0, 1); 0 is off.
    pub eta: f64,
    /// Keep tokens whose logit is within this many standard deviations of the largest; 0 is off.
    pub top_n_sigma: f64,
    /// The probability with which top choices are excluded at a position, in [0, 1]; 0 is off.
    pub xtc_probability: f64,
    /// The probability that makes a token a top choice, in [0, 0.5].
    pub xtc_threshold: f64,
    /// Keeps the surprise of the text near a target, instead of the choices above.
    pub mirostat: Option<Mirostat>,
    /// The order in which all this happens.
    pub order: Order,
}

impl Default for SamplingOptions {
    fn default() -> Self {
        Self {
            logit_bias: Vec::new(),
            repetition_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            penalty_last_n: 0,
            dry: Dry::default(),
            no_repeat_ngram: 0,
            bad_words: Vec::new(),
            min_tokens: 0,
            end_tokens: Vec::new(),
            forced_first: None,
            forced_last: None,
            temperature: 0.0,
            dynatemp_range: 0.0,
            dynatemp_exponent: 1.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            typical_p: 1.0,
            epsilon: 0.0,
            eta: 0.0,
            top_n_sigma: 0.0,
            xtc_probability: 0.0,
            xtc_threshold: 0.1,
            mirostat: None,
            order: Order::default(),
        }
    }
}

impl SamplingOptions {
    /// Whether a stage does anything with these options.
    pub fn is_on(&self, stage: Stage) -> bool {
        match stage {
            Stage::LogitBias => !self.logit_bias.is_empty(),
            Stage::Penalties => {
                self.repetition_penalty != 1.0
                    || self.presence_penalty != 0.0
                    || self.frequency_penalty != 0.0
            }
            Stage::Dry => self.dry.multiplier != 0.0,
            Stage::NoRepeatNgram => self.no_repeat_ngram > 0,
            Stage::BadWords => !self.bad_words.is_empty(),
            Stage::MinTokens => self.min_tokens > 0,
            Stage::Forced => self.forced_first.is_some() || self.forced_last.is_some(),
            // At temperature 0 the law is a point, and nothing below is left to do.
            _ if self.temperature == 0.0 => false,
            Stage::Temperature => self.temperature != 1.0 || self.dynatemp_range > 0.0,
            Stage::TopK => self.top_k > 0,
            Stage::TopP => self.top_p < 1.0,
            Stage::MinP => self.min_p > 0.0,
            Stage::Typical => self.typical_p < 1.0,
            Stage::Epsilon => self.epsilon > 0.0,
            Stage::Eta => self.eta > 0.0,
            Stage::TopNSigma => self.top_n_sigma > 0.0,
            Stage::Xtc => self.xtc_probability > 0.0,
            Stage::Mirostat => self.mirostat.is_some(),
        }
    }

    /// XTC with these options; the sampler brings the seed.
    pub(crate) fn xtc(&self) -> Xtc {
        Xtc { probability: self.xtc_probability, threshold: self.xtc_threshold, seed: 0 }
    }

    /// Whether all options are in their ranges, and go together.
    ///
    /// # Errors
    ///
    /// The first that is not, and what to do.
    pub fn check(&self) -> Result<(), LogitsError> {
        self.check_law()?;
        self.check_warp()?;
        self.check_together()
    }

    fn check_law(&self) -> Result<(), LogitsError> {
        let finite = "a finite number";
        let r = self.repetition_penalty;
        range("repetition penalty", r, r.is_finite() && r > 0.0, "above 0 (1 is off)")?;
        for (name, x) in
            [("presence penalty", self.presence_penalty), ("frequency penalty", self.frequency_penalty)]
        {
            range(name, x, x.is_finite(), finite)?;
        }
        let multiplier = self.dry.multiplier;
        range("DRY multiplier", multiplier, multiplier.is_finite() && multiplier >= 0.0, "0 (off) or more")?;
        let n = self.no_repeat_ngram;
        range("no-repeat n-gram", n as f64, n <= LONGEST_NGRAM, "0 (off) to 1000 tokens")?;
        let base = self.dry.base;
        range("DRY base", base, base.is_finite() && base >= 1.0, "a finite number, at least 1")?;
        let allowed = self.dry.allowed_length;
        range("DRY allowed length", allowed as f64, allowed > 0, "at least 1")?;
        for &(_, bias) in &self.logit_bias {
            let ok = !bias.is_nan() && bias < f32::INFINITY;
            range("logit bias", bias, ok, "a number or -inf (bans the token)")?;
        }
        let long = self.forced_last.is_none_or(|(length, _)| length > 0);
        range("length of the forced last token", 0.0, long, "at least 1")
    }

    fn check_warp(&self) -> Result<(), LogitsError> {
        let t = self.temperature;
        range("temperature", t, t.is_finite() && t >= 0.0, "0 (greedy) or a finite number above 0")?;
        let (r, e) = (self.dynatemp_range, self.dynatemp_exponent);
        range("dynatemp range", r, r.is_finite() && r >= 0.0, "0 (off) or a finite number above 0")?;
        range("dynatemp exponent", e, e.is_finite() && e > 0.0, "a finite number above 0")?;
        for (name, mass) in [("top-p", self.top_p), ("typical-p", self.typical_p)] {
            range(name, mass, mass > 0.0 && mass <= 1.0, "above 0 and at most 1 (1 is off)")?;
        }
        for (name, share) in [("min-p", self.min_p), ("XTC probability", self.xtc_probability)] {
            range(name, share, (0.0..=1.0).contains(&share), "0 (off) to 1")?;
        }
        for (name, cut) in [("epsilon cutoff", self.epsilon), ("eta cutoff", self.eta)] {
            range(name, cut, (0.0..1.0).contains(&cut), "0 (off) or above, below 1")?;
        }
        let n = self.top_n_sigma;
        range("top-n-sigma", n, n.is_finite() && n >= 0.0, "0 (off) or a finite number above 0")?;
        let (x, on) = (self.xtc_threshold, self.xtc_probability > 0.0);
        let most = if on { 0.5 } else { f64::INFINITY };
        range("XTC threshold", x, x >= 0.0 && x <= most, "0 to 0.5 (two tokens never have more)")?;
        if let Some(Mirostat { tau, eta, .. }) = self.mirostat {
            range("mirostat tau", tau, tau.is_finite() && tau > 0.0, "a finite number above 0")?;
            range("mirostat eta", eta, (0.0..=1.0).contains(&eta), "0 to 1")?;
        }
        Ok(())
    }

    fn check_together(&self) -> Result<(), LogitsError> {
        let clash = |message: String| Err(LogitsError::Together(message));
        if self.min_tokens > 0 && self.end_tokens.is_empty() {
            return clash(format!(
                "min tokens is {}, but no token is known that ends a text; name stop tokens, or leave it out",
                self.min_tokens
            ));
        }
        if self.temperature == 0.0 && self.dynatemp_range > 0.0 {
            return clash(format!(
                "dynatemp range {} around temperature 0, which is greedy; give a temperature above 0",
                self.dynatemp_range
            ));
        }
        let truncates = |stage: &&Stage| {
            !stage.makes_law()
                && !matches!(stage, Stage::Temperature | Stage::Mirostat)
                && self.is_on(**stage)
        };
        let others: Vec<_> = Stage::ALL.iter().filter(truncates).map(|stage| stage.name()).collect();
        if self.is_on(Stage::Mirostat) && !others.is_empty() {
            return clash(format!(
                "mirostat takes the place of other choices, but {} is on too; switch one of the two off",
                others.join(", ")
            ));
        }
        match Stage::ALL.iter().find(|stage| self.is_on(**stage) && !self.order.stages().contains(stage)) {
            Some(stage) => Err(LogitsError::Order(format!(
                "stage `{}` is on, but does not stand in `{}`; add it, or switch it off",
                stage.name(),
                self.order
            ))),
            None => Ok(()),
        }
    }
}

/// The longest n-gram that can be kept from coming again: longer ones never do.
const LONGEST_NGRAM: usize = 1000;

fn range(
    name: &'static str,
    value: impl Into<f64>,
    ok: bool,
    range: &'static str,
) -> Result<(), LogitsError> {
    if ok { Ok(()) } else { Err(LogitsError::OutOfRange { name, value: value.into(), range }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bad(change: impl FnOnce(&mut SamplingOptions)) -> String {
        let mut options = SamplingOptions { temperature: 1.0, ..Default::default() };
        change(&mut options);
        options.check().expect_err("an option out of range").to_string()
    }

    #[test]
    fn options_out_of_range_are_named() {
        assert!(bad(|o| o.temperature = -1.0).starts_with("temperature -1 is out of range"));
        assert!(bad(|o| o.temperature = f32::NAN).contains("temperature NaN"));
        assert!(bad(|o| o.top_p = 1.5).starts_with("top-p 1.5"));
        assert!(bad(|o| o.top_p = 0.0).starts_with("top-p 0"));
        assert!(bad(|o| o.min_p = -0.5).starts_with("min-p -0.5"));
        assert!(bad(|o| o.repetition_penalty = 0.0).starts_with("repetition penalty 0"));
        assert!(bad(|o| o.presence_penalty = f32::INFINITY).starts_with("presence penalty"));
        assert!(bad(|o| o.logit_bias = vec![(0, f32::NAN)]).starts_with("logit bias NaN"));
        assert!(bad(|o| o.typical_p = 0.0).starts_with("typical-p 0"));
        assert!(bad(|o| o.epsilon = 1.0).starts_with("epsilon cutoff 1"));
        assert!(bad(|o| o.eta = -0.1).starts_with("eta cutoff -0.1"));
        assert!(bad(|o| o.top_n_sigma = -1.0).starts_with("top-n-sigma -1"));
        assert!(bad(|o| o.xtc_probability = 2.0).starts_with("XTC probability 2"));
        assert!(bad(|o| (o.xtc_probability, o.xtc_threshold) = (0.5, 0.6)).starts_with("XTC threshold 0.6"));
        assert!(bad(|o| o.dynatemp_range = -1.0).starts_with("dynatemp range -1"));
        assert!(bad(|o| o.dynatemp_exponent = 0.0).starts_with("dynatemp exponent 0"));
        assert!(bad(|o| o.dry.base = 0.5).starts_with("DRY base 0.5"));
        assert!(bad(|o| o.dry.allowed_length = 0).starts_with("DRY allowed length 0"));
        assert!(bad(|o| o.forced_last = Some((0, 1))).starts_with("length of the forced last token 0"));
        let mirostat = |tau, eta| Some(Mirostat { tau, eta, ..Default::default() });
        assert!(bad(|o| o.mirostat = mirostat(0.0, 0.1)).starts_with("mirostat tau 0"));
        assert!(bad(|o| o.mirostat = mirostat(5.0, 1.5)).starts_with("mirostat eta 1.5"));
    }

    #[test]
    fn options_that_do_not_go_together_say_the_way_out() {
        let text = bad(|o| (o.mirostat, o.top_k, o.min_p) = (Some(Mirostat::default()), 5, 0.1));
        assert_eq!(
            text,
            "mirostat takes the place of other choices, but top-k, min-p is on too; switch one of the two off"
        );
        assert!(bad(|o| o.min_tokens = 3).contains("no token is known that ends a text"));
        assert!(bad(|o| (o.temperature, o.dynatemp_range) = (0.0, 0.5)).contains("around temperature 0"));
        let missing = bad(|o| {
            o.top_k = 5;
            o.order = "penalties,temperature".parse().expect("an order");
        });
        assert_eq!(
            missing,
            "order of sampling: stage `top-k` is on, but does not stand in `penalties,temperature`; add it, or switch it off"
        );
    }
}
