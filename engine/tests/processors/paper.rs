//! The law of the next token on paper: every processor written down once more, from its definition, over whole rows
//! and in the plainest way.

use drafthorse_logits::{
    Context, Memory, SamplingOptions, Stage, TokenId,
    processors::{MirostatVersion, Xtc},
};

const OUT: f32 = f32::NEG_INFINITY;

/// The law after a context, whose memory is what mirostat allows.
pub(crate) fn next_law(context: &Context<'_>, row: &[f32], options: &SamplingOptions, seed: u64) -> Vec<f64> {
    let mut row = row.to_vec();
    let stages = options.order.stages().iter().filter(|stage| options.is_on(**stage));
    let (law, warp): (Vec<_>, Vec<_>) = stages.copied().partition(|stage| stage.makes_law());
    for stage in law {
        make_law(stage, context, options, &mut row);
    }
    if options.temperature == 0.0 {
        let best = row.iter().copied().fold(OUT, f32::max);
        let first = row.iter().position(|x| *x == best);
        return (0..row.len()).map(|v| f64::from(u8::from(Some(v) == first))).collect();
    }
    let mut left = Left { row, temperature: 1.0 };
    for stage in warp {
        left.apply(stage, context, options, seed);
    }
    left.law()
}

/// The memory after a text of these tokens, `row` being what the model says after a sequence.
pub(crate) fn memory<'a>(
    sequence: &[TokenId],
    prompt: usize,
    options: &SamplingOptions,
    row: impl Fn(&[TokenId]) -> &'a [f32],
) -> Memory {
    let Some(mirostat) = options.mirostat else { return Memory::off() };
    (prompt..sequence.len()).fold(mirostat.start(), |memory, end| {
        let before = &sequence[..end];
        let context = Context::new(before, prompt).remembering(memory);
        let law = next_law(&context, row(before), options, 0);
        mirostat.after(memory, law[sequence[end] as usize])
    })
}

fn make_law(stage: Stage, context: &Context<'_>, options: &SamplingOptions, row: &mut [f32]) {
    let (tokens, text) = (context.tokens(), context.generated());
    let last = |tokens: &[TokenId]| match options.penalty_last_n {
        0 => tokens.to_vec(),
        n => tokens[tokens.len().saturating_sub(n)..].to_vec(),
    };
    for (v, logit) in (0..).zip(row) {
        let banned = match stage {
            Stage::LogitBias => {
                *logit += options.logit_bias.iter().filter(|(t, _)| *t == v).map(|(_, b)| *b).sum::<f32>();
                false
            }
            Stage::Penalties => {
                let penalty = options.repetition_penalty;
                if last(tokens).contains(&v) {
                    *logit = if *logit > 0.0 { *logit / penalty } else { *logit * penalty };
                }
                let count = last(text).iter().filter(|t| **t == v).count();
                if count > 0 {
                    *logit -= options.presence_penalty + options.frequency_penalty * count as f32;
                }
                false
            }
            Stage::Dry => {
                *logit = (f64::from(*logit) - dry_penalty(tokens, v, options)) as f32;
                false
            }
            Stage::NoRepeatNgram => {
                let n = options.no_repeat_ngram;
                let would_be = [tokens, &[v]].concat();
                tokens.len() >= n && tokens.windows(n).any(|seen| would_be.ends_with(seen))
            }
            Stage::BadWords => {
                let would_be = [tokens, &[v]].concat();
                options.bad_words.iter().any(|word| would_be.ends_with(word))
            }
            Stage::MinTokens => text.len() < options.min_tokens && options.end_tokens.contains(&v),
            Stage::Forced => {
                let first = options.forced_first.filter(|_| text.is_empty());
                let last = options.forced_last.filter(|(n, _)| text.len() + 1 == *n).map(|(_, token)| token);
                last.or(first).is_some_and(|forced| forced != v)
            }
            _ => unreachable!("{stage:?} changes how a law is sampled"),
        };
        if banned {
            *logit = OUT;
        }
    }
}

/// By all earlier occurrences of all ends of the text.
fn dry_penalty(tokens: &[TokenId], next: TokenId, options: &SamplingOptions) -> f64 {
    let dry = &options.dry;
    let breaks = |end: &[TokenId]| dry.breakers.iter().any(|b| end.windows(b.len()).any(|w| w == &b[..]));
    let longest = (1..tokens.len())
        .filter(|n| {
            let end = &tokens[tokens.len() - n..];
            let again = [end, &[next]].concat();
            !breaks(end) && tokens.windows(n + 1).any(|seen| seen == &again[..])
        })
        .max();
    match longest.filter(|n| *n >= dry.allowed_length && !breaks(&[next])) {
        Some(n) => f64::from(dry.multiplier) * f64::from(dry.base).powf((n - dry.allowed_length) as f64),
        None => 0.0,
    }
}

/// What is left of a row; the rest is `-inf`.
struct Left {
    row: Vec<f32>,
    temperature: f32,
}

impl Left {
    fn law(&self) -> Vec<f64> {
        let max = self.row.iter().copied().fold(OUT, f32::max);
        let weight = |x: &f32| match self.temperature {
            1.0 => (f64::from(*x) - f64::from(max)).exp(),
            t => f64::from((x - max) / t).exp(),
        };
        let weights: Vec<_> = self.row.iter().map(weight).collect();
        let sum: f64 = weights.iter().sum();
        weights.into_iter().map(|w| w / sum).collect()
    }

    fn entropy(&self) -> f64 {
        self.law().into_iter().filter(|p| *p > 0.0).map(|p| -p * p.ln()).sum()
    }

    /// Probabilities downwards.
    fn sorted(&self) -> Vec<f64> {
        let mut sorted: Vec<_> = self.law().into_iter().filter(|p| *p > 0.0).collect();
        sorted.sort_by(|a, b| b.total_cmp(a));
        sorted
    }

    /// Those whose probability is as said, or the most probable.
    fn keep(&mut self, stays: impl Fn(f64) -> bool) {
        let law = self.law();
        let best = law.iter().copied().fold(0.0, f64::max);
        let any = law.iter().any(|p| *p > 0.0 && stays(*p));
        for (logit, p) in self.row.iter_mut().zip(law) {
            if !(if any { stays(p) } else { p == best }) {
                *logit = OUT;
            }
        }
    }

    fn apply(&mut self, stage: Stage, context: &Context<'_>, options: &SamplingOptions, seed: u64) {
        match stage {
            Stage::Temperature => self.set_temperature(options),
            Stage::TopK | Stage::TopP | Stage::MinP | Stage::Epsilon | Stage::TopNSigma => {
                self.keep_probable(stage, options);
            }
            Stage::Typical | Stage::Eta => self.keep_by_entropy(stage, options),
            Stage::Xtc => self.exclude_top(context, options, seed),
            Stage::Mirostat => self.keep_unsurprising(context, options),
            _ => unreachable!("{stage:?} makes a law"),
        }
    }

    fn set_temperature(&mut self, options: &SamplingOptions) {
        let (t, range) = (options.temperature, options.dynatemp_range);
        self.temperature = if range > 0.0 {
            let most = (self.sorted().len() as f64).ln();
            let share = (self.entropy() / most).powf(options.dynatemp_exponent.into());
            let low = (t - range).max(0.0);
            (f64::from(low) + f64::from(t + range - low) * share) as f32
        } else {
            t
        };
    }

    /// Filters by the size of probabilities and logits.
    fn keep_probable(&mut self, stage: Stage, options: &SamplingOptions) {
        let sorted = self.sorted();
        let low = match stage {
            Stage::TopK => sorted[options.top_k.min(sorted.len()) - 1],
            Stage::TopP => {
                let enough = (1..sorted.len()).find(|n| sorted[..*n].iter().sum::<f64>() >= options.top_p);
                sorted[enough.unwrap_or(sorted.len()) - 1]
            }
            Stage::MinP => options.min_p * sorted[0],
            Stage::Epsilon => options.epsilon,
            _ => {
                let alive: Vec<_> = self.row.iter().filter(|x| **x > OUT).map(|x| f64::from(*x)).collect();
                let n = alive.len() as f64;
                let mean = alive.iter().sum::<f64>() / n;
                let sigma = (alive.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n).sqrt();
                let low = alive.iter().copied().fold(f64::MIN, f64::max) - options.top_n_sigma * sigma;
                self.row.iter_mut().filter(|x| f64::from(**x) < low).for_each(|x| *x = OUT);
                return;
            }
        };
        self.keep(|p| p >= low);
    }

    /// Filters that look at the entropy.
    fn keep_by_entropy(&mut self, stage: Stage, options: &SamplingOptions) {
        let entropy = self.entropy();
        if stage == Stage::Eta {
            let cut = options.eta.min(options.eta.sqrt() * (-entropy).exp());
            return self.keep(|p| p >= cut);
        }
        let differs = |p: f64| (-p.ln() - entropy).abs();
        let mut typical = self.sorted();
        typical.sort_by(|a, b| differs(*a).total_cmp(&differs(*b)));
        let all = typical.len();
        let enough = (1..all).find(|n| typical[..*n].iter().sum::<f64>() >= options.typical_p);
        let edge = differs(typical[enough.unwrap_or(all) - 1]);
        self.keep(|p| differs(p) <= edge);
    }

    fn exclude_top(&mut self, context: &Context<'_>, options: &SamplingOptions, seed: u64) {
        let (probability, threshold) = (options.xtc_probability, options.xtc_threshold);
        let least = self.sorted().into_iter().filter(|p| *p >= threshold).reduce(f64::min);
        let tossed = Xtc { probability, threshold, seed }.excludes(context.tokens().len());
        if let Some(least) = least.filter(|_| tossed) {
            self.keep(|p| p <= least);
        }
    }

    fn keep_unsurprising(&mut self, context: &Context<'_>, options: &SamplingOptions) {
        let allowed = context.memory().allowed().unwrap_or(f64::INFINITY);
        let sorted = self.sorted();
        if options.mirostat.unwrap_or_default().version == MirostatVersion::V2 {
            return self.keep(|p| -p.log2() <= allowed);
        }
        let pairs = sorted.windows(2).enumerate().take(99);
        let t = |i: usize| ((i as f64 + 2.0) / (i as f64 + 1.0)).ln();
        let (tb, tt) = pairs
            .fold((0.0, 0.0), |(tb, tt), (i, pair)| (tb + t(i) * (pair[0] / pair[1]).ln(), tt + t(i) * t(i)));
        let (s, n) = (tb / tt, self.row.len() as f64);
        let count = ((s - 1.0) * allowed.exp2() / (1.0 - n.powf(1.0 - s))).powf(1.0 / s);
        let edge = sorted[(count as usize).clamp(1, sorted.len()) - 1];
        self.keep(|p| p >= edge);
    }
}
