//! Texts with drafts against texts without, token by token.

use super::{
    ProofError, ProofOptions, Subject, Watch,
    candidate::Candidate,
    report::{Cause, Difference, Outcome, Test, TestKind, TopTwo},
    statistics::at_least,
};
use drafthorse_drafter::DraftRequest;
use drafthorse_engine::{DraftLength, Engine, SessionOptions};
use drafthorse_logits::{
    Context, Draws, Memory, Probs, Purpose, Sampler, SamplingOptions, SeededDraws, TokenId,
};
use drafthorse_model::{ModelError, SequenceModel};
use drafthorse_verifier::AcceptanceRule;

/// Passes of different numbers of rows differ by rounding up to this share of the largest logit.
const ROUNDING: f32 = 2e-3;

/// A text and how it came about.
pub(super) struct Text {
    pub(super) tokens: Vec<TokenId>,
    /// For each round the tokens of the text before it.
    rounds: Vec<usize>,
}

/// How texts are generated that are compared.
pub(super) struct Setting<'a> {
    pub(super) subject: &'a dyn Subject,
    pub(super) options: &'a ProofOptions,
    pub(super) sampling: SamplingOptions,
}

impl Setting<'_> {
    fn session(&self, candidate: &Candidate, k: usize, prompt: usize) -> SessionOptions {
        SessionOptions {
            sampling: self.sampling.clone(),
            seed: self.options.seed.wrapping_add(prompt as u64),
            max_tokens: self.options.max_tokens,
            draft_length: Some(k.into()),
            rule: Some(candidate.rule.clone()),
            ..SessionOptions::default()
        }
    }

    /// The text of every prompt.
    pub(super) fn texts(
        &self,
        candidate: &Candidate,
        k: usize,
        prompts: &[Vec<TokenId>],
        watch: &dyn Watch,
    ) -> Result<Vec<Text>, ProofError> {
        let mut engine = self.subject.engine(k)?;
        let text = |(number, prompt): (usize, &Vec<TokenId>)| {
            watch.step()?;
            text(&mut engine, prompt, &self.session(candidate, k, number))
        };
        prompts.iter().enumerate().map(text).collect()
    }

    /// Compares the texts of `k` tokens drafted a round with those of plain decoding.
    pub(super) fn compare(
        &self,
        candidate: &Candidate,
        k: usize,
        prompts: &[Vec<TokenId>],
        plain: &[Text],
        watch: &dyn Watch,
    ) -> Result<Test, ProofError> {
        let texts = self.texts(candidate, k, prompts, watch)?;
        let mut differences = Vec::new();
        for (number, (text, plain)) in texts.iter().zip(plain).enumerate() {
            if let Some(at) = first_difference(&text.tokens, &plain.tokens) {
                let options = self.session(candidate, k, number);
                let (prompt, tokens) = (&prompts[number], (&plain.tokens[..], text));
                differences.push(self.explain(number, prompt, tokens, at, &options)?);
            }
        }
        let tokens: usize = plain.iter().map(|text| text.tokens.len()).sum();
        let outcome = self.outcome(&differences, tokens);
        Ok(Test {
            kind: if self.greedy() { TestKind::GreedyIdentity } else { TestKind::SeedIdentity },
            rule: candidate.name.clone(),
            k,
            at: format!("{} texts, {tokens} tokens", texts.len()),
            samples: texts.len() as u64,
            statistic: differences.len() as f64,
            degrees: None,
            expected: Some(0.0),
            p: None,
            farthest: None,
            outcome,
            differences,
        })
    }

    fn greedy(&self) -> bool {
        self.sampling.temperature == 0.0
    }

    fn outcome(&self, differences: &[Difference], tokens: usize) -> Outcome {
        let rounding = differences.iter().all(|difference| difference.cause == Cause::Rounding);
        if differences.is_empty() {
            return Outcome::Passed;
        }
        if self.options.exact || !rounding {
            return Outcome::Failed;
        }
        if self.greedy() {
            return Outcome::NearTies;
        }
        // A token that is drawn changes as often as the two laws differ, and no oftener.
        let most = differences.iter().map(|difference| difference.total_variation).fold(0.0, f64::max);
        let p = at_least(differences.len() as u64, most * tokens as f64);
        if p < self.options.level { Outcome::Failed } else { Outcome::NearTies }
    }

    /// Reads the place of a difference again, as plain decoding did and as the verify pass did.
    fn explain(
        &self,
        number: usize,
        prompt: &[TokenId],
        (plain, text): (&[TokenId], &Text),
        at: usize,
        options: &SessionOptions,
    ) -> Result<Difference, ProofError> {
        let sampler = Sampler::new(&self.sampling).map_err(drafthorse_engine::Error::from)?;
        let sequence = [prompt, &plain[..at]].concat();
        let mut expert = self.subject.expert();
        let plain_row = pass(&mut *expert, &sequence, &[])?.pop().unwrap_or_default();
        // The round that went wrong, with the tokens that were drafted in it.
        let round = text.rounds.partition_point(|start| *start <= at).saturating_sub(1);
        let start = text.rounds[round];
        let drafted = self.drafted(&sequence[..prompt.len() + start], (round, start), options, &sampler)?;
        let rows = pass(&mut *expert, &sequence[..prompt.len() + start], &drafted)?;
        let verify_row = rows.get(at - start).unwrap_or(&plain_row);
        let law = |row: &[f32]| -> Result<Probs, ProofError> {
            let scores = sampler.scores(&Context::new(&sequence, prompt.len()), row);
            Ok(scores.map_err(ModelError::from)?.probs().clone())
        };
        let total_variation = law(&plain_row)?.total_variation(&law(verify_row)?);
        let difference = Difference {
            prompt: number,
            position: at,
            plain: plain[at],
            speculative: text.tokens[at],
            rows: rows.len(),
            plain_pass: top_two(&plain_row),
            verify_pass: top_two(verify_row),
            logit_difference: largest_difference(&plain_row, verify_row),
            total_variation,
            cause: Cause::Decision,
        };
        Ok(Difference { cause: self.cause(&difference, &plain_row), ..difference })
    }

    fn cause(&self, difference: &Difference, row: &[f32]) -> Cause {
        let finite = row.iter().filter(|logit| logit.is_finite());
        let largest = finite.fold(1.0, |most: f32, logit| most.max(logit.abs()));
        let same = if self.greedy() {
            difference.plain_pass.tokens[0] == difference.verify_pass.tokens[0]
        } else {
            difference.total_variation == 0.0
        };
        match difference.logit_difference <= ROUNDING * largest {
            _ if same => Cause::Decision,
            true => Cause::Rounding,
            false => Cause::Passes,
        }
    }

    /// What the drafter proposed in the round that began after `text` tokens of the text.
    fn drafted(
        &self,
        sequence: &[TokenId],
        (round, text): (usize, usize),
        options: &SessionOptions,
        sampler: &Sampler,
    ) -> Result<Vec<TokenId>, ProofError> {
        let left = options.max_tokens.saturating_sub(text + 1);
        let request = DraftRequest {
            max: options.draft_length.as_ref().map_or(0, DraftLength::max).min(left),
            score_after: false,
            raw: false,
            vocab: self.subject.expert().vocab_size(),
            prompt: sequence.len() - text,
            memory: Memory::off(),
            sampler,
            stop: None,
        };
        let noise = options.rule.as_deref().is_some_and(AcceptanceRule::shares_noise);
        let mut draws = Drafting { draws: SeededDraws::new(options.seed, round as u64 + 1), noise };
        Ok(self.subject.drafter().propose(sequence, &request, &mut draws)?.tokens)
    }
}

/// The draws that a drafter gets.
struct Drafting {
    draws: SeededDraws,
    /// Whether it races with the expert's noise.
    noise: bool,
}

impl Draws for Drafting {
    fn accept(&mut self, position: usize, probability: f64) -> bool {
        self.draws.accept(position, probability)
    }

    fn pick(&mut self, position: usize, purpose: Purpose, probs: &Probs) -> TokenId {
        if self.noise { self.draws.race(position, probs) } else { self.draws.pick(position, purpose, probs) }
    }
}

/// One text, to its end.
fn text(engine: &mut Engine, prompt: &[TokenId], options: &SessionOptions) -> Result<Text, ProofError> {
    let mut session = engine.session(prompt, options)?;
    let mut rounds = vec![0];
    while session.next().transpose()?.is_some() {
        rounds.push(session.generated().len());
    }
    Ok(Text { tokens: session.generated().to_vec(), rounds })
}

fn first_difference(a: &[TokenId], b: &[TokenId]) -> Option<usize> {
    let common = a.iter().zip(b).take_while(|(a, b)| a == b).count();
    (common < a.len() && common < b.len()).then_some(common)
}

/// The rows of one forward over the last token of a sequence and those that follow, after the rest was read.
fn pass(
    expert: &mut dyn SequenceModel,
    sequence: &[TokenId],
    drafted: &[TokenId],
) -> Result<Vec<Vec<f32>>, ModelError> {
    let ahead = &sequence[..sequence.len() - 1];
    if !ahead.is_empty() {
        expert.logits(ahead, 0)?;
    }
    let logits = expert.logits(&[sequence, drafted].concat(), drafted.len() + 1)?;
    Ok(logits.iter().map(<[f32]>::to_vec).collect())
}

fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).filter(|(a, b)| a != b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// The two best tokens, the lowest ids among equals.
fn top_two(row: &[f32]) -> TopTwo {
    let mut best = [(0, f32::NEG_INFINITY); 2];
    for (token, &logit) in (0..).zip(row) {
        if logit > best[0].1 {
            best = [(token, logit), best[0]];
        } else if logit > best[1].1 {
            best[1] = (token, logit);
        }
    }
    TopTwo { tokens: best.map(|(token, _)| token), logits: best.map(|(_, logit)| logit) }
}
