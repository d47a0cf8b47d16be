//! Beam search: the likeliest texts of the expert, without speculation.

use crate::{
    Engine, Error, ErrorKind, Finish, Provenance, SessionOptions,
    emit::{Emitter, Ends},
    session::{check_ending, check_prompt},
};
use drafthorse_logits::{LogitsProcessor, Proposal, Sampler, SamplingOptions, TokenId};
use drafthorse_verifier::Round;
use std::sync::Arc;

/// More beams are taken for a mistake.
const MOST_BEAMS: usize = 4096;

/// When a beam search ends, once as many texts are complete as there are beams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EarlyStopping {
    /// At once. `early_stopping=True` of transformers.
    First,
    /// When no beam scores above the worst of them as it is; a text that would gain by growing may be missed.
    /// `early_stopping=False`, the default of transformers.
    #[default]
    Likely,
    /// When no beam can come to score above the worst of them. `early_stopping="never"` of transformers.
    Certain,
}

/// How the likeliest texts are looked for.
///
/// A text scores `sum(ln p) / length^length_penalty`, p being the expert's probabilities at temperature 1 and length its
/// generated tokens, the stop token among them. Each step every beam goes on with the tokens that lead to the best sums;
/// twice as many continuations as beams are looked at (more with several stop tokens), so that enough are left where texts
/// end.
///
/// # Cost
///
/// This is no speculative decoding: no drafter is asked, and the text is not drawn from a law. Each step costs a pass of
/// the expert for each beam, one after another over one cache. What beams have in common is read once; where two part
/// ways, the second one's tokens from there on are read again ([`BeamTexts::rows`] counts them), so that beams which part
/// early make long texts dear.
///
/// Source: Graves, "Sequence Transduction with Recurrent Neural Networks", 2012, for the search; the penalty, the
/// candidates and the ends as in Hugging Face transformers.
#[derive(Clone)]
#[allow(clippy::exhaustive_structs)]
pub struct BeamSearch {
    /// How many unfinished texts are kept, 1 to 4096; 1 is greedy decoding, but that with a length penalty and
    /// [`EarlyStopping::Certain`] the search goes on behind the end of a text.
    pub beams: usize,
    /// Above 0 long texts score better than their sum (1 is the mean), below 0 worse; 0 is the sum.
    pub length_penalty: f64,
    /// When the search ends.
    pub early_stopping: EarlyStopping,
    /// How many texts are wanted at most, from 1 to the number of beams.
    pub best: usize,
    /// The most tokens of a text.
    pub max_tokens: usize,
    /// Tokens that end a text; the one that did is its last.
    pub stop_tokens: Vec<TokenId>,
    /// Processors of the expert's rows, before probabilities are made of them.
    pub processors: Vec<Arc<dyn LogitsProcessor>>,
}

impl Default for BeamSearch {
    /// Four beams, the mean log-probability, the best text of up to 256 tokens.
    fn default() -> Self {
        Self {
            beams: 4,
            length_penalty: 1.0,
            early_stopping: EarlyStopping::default(),
            best: 1,
            max_tokens: 256,
            stop_tokens: Vec::new(),
            processors: Vec::new(),
        }
    }
}

impl std::fmt::Debug for BeamSearch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BeamSearch")
            .field("beams", &self.beams)
            .field("length_penalty", &self.length_penalty)
            .field("early_stopping", &self.early_stopping)
            .field("best", &self.best)
            .field("max_tokens", &self.max_tokens)
            .field("stop_tokens", &self.stop_tokens)
            .field("processors", &self.processors.len())
            .finish()
    }
}

/// A text that was found.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct BeamText {
    /// Its tokens, the stop token that ended it among them.
    pub tokens: Vec<TokenId>,
    /// Its text; empty without a detokenizer.
    pub text: String,
    /// The sum of its tokens' log-probabilities, in nats.
    pub log_probability: f64,
    /// What it was ranked by.
    pub score: f64,
    /// Why it ended.
    pub finish: Finish,
}

/// What a beam search found.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct BeamTexts {
    /// The texts, the best first.
    pub texts: Vec<BeamText>,
    /// Passes of the expert.
    pub passes: u64,
    /// Tokens it read in them, those of the prompt among them.
    pub rows: u64,
}

impl Engine {
    /// The likeliest texts of the expert after `prompt`, as far as a search of this width finds them.
    ///
    /// ```
    /// use drafthorse_engine::{BeamSearch, Engine};
    /// use drafthorse_model::TableModel;
    /// use std::sync::Arc;
    ///
    /// let mut engine = Engine::builder().expert(Arc::new(TableModel::random(8, 2.0, 1))).build()?;
    /// let found = engine.beam_search(&[1, 2], &BeamSearch { best: 2, max_tokens: 10, ..Default::default() })?;
    /// assert!(found.texts[0].score >= found.texts[1].score);
    /// # Ok::<(), drafthorse_engine::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// A prompt that is empty, too long or outside the vocabulary; an option out of range; an expert that fails, or rows
    /// in which processors leave no token.
    pub fn beam_search(&mut self, prompt: &[TokenId], options: &BeamSearch) -> Result<BeamTexts, Error> {
        check(self, prompt, options)?;
        let room = self.verifier.context_len() - prompt.len();
        let (length, limit) = if options.max_tokens <= room {
            (options.max_tokens, Finish::MaxTokens)
        } else {
            (room, Finish::ContextEnd)
        };
        let plain = Sampler::new(&SamplingOptions { temperature: 1.0, ..Default::default() })?;
        let sampler = options.processors.iter().cloned().fold(plain, Sampler::with_processor);
        let mut search =
            Search { engine: self, options, sampler, prompt, last_read: vec![], passes: 0, rows: 0 };
        let mut done = search.run(length)?;
        let (passes, rows) = (search.passes, search.rows);
        done.truncate(options.best);
        let write = |(score, beam): (f64, Beam)| {
            let (text, finish) = self.write(prompt, &beam.tokens, options, (length, limit.clone()))?;
            Ok(BeamText { tokens: beam.tokens, text, log_probability: beam.sum, score, finish })
        };
        Ok(BeamTexts { texts: done.into_iter().map(write).collect::<Result<_, Error>>()?, passes, rows })
    }

    fn write(
        &self,
        prompt: &[TokenId],
        tokens: &[TokenId],
        options: &BeamSearch,
        (length, limit): (usize, Finish),
    ) -> Result<(String, Finish), Error> {
        let decoder = self.detokenizer.as_ref().map(|detokenizer| detokenizer.text_after(prompt));
        let mut emitter = Emitter::new(decoder, vec![], options.stop_tokens.clone(), length, limit.clone());
        let round: Vec<_> = tokens.iter().map(|&token| (token, Provenance::Bonus)).collect();
        let emitted = emitter.emit(&round, Ends::default());
        emitted.error.map_or(Ok((emitted.text, emitted.finish.unwrap_or(limit))), Err)
    }
}

fn check(engine: &Engine, prompt: &[TokenId], options: &BeamSearch) -> Result<(), Error> {
    check_prompt(prompt, engine)?;
    let (max_tokens, stop_tokens) = (options.max_tokens, options.stop_tokens.clone());
    check_ending(&SessionOptions { max_tokens, stop_tokens, ..Default::default() }, engine)?;
    let fail = |message: String| Err(Error::new(ErrorKind::Option, message));
    let (beams, best, penalty) = (options.beams, options.best, options.length_penalty);
    if beams == 0 || beams > MOST_BEAMS {
        return fail(format!("a search with {beams} beams; 1 to {MOST_BEAMS} are possible"));
    }
    if best == 0 || best > beams {
        return fail(format!(
            "{best} best texts of {beams} beams; ask for 1 to {beams}, or search with more beams"
        ));
    }
    if !penalty.is_finite() {
        return fail(format!("length penalty {penalty} is out of range: a finite number (0 is off)"));
    }
    Ok(())
}

/// A text in the making.
#[derive(Clone, Debug)]
struct Beam {
    tokens: Vec<TokenId>,
    /// The sum of its log-probabilities.
    sum: f64,
}

/// A way for a beam to go on.
struct Candidate {
    beam: usize,
    token: TokenId,
    sum: f64,
}

struct Search<'a> {
    engine: &'a mut Engine,
    options: &'a BeamSearch,
    sampler: Sampler,
    prompt: &'a [TokenId],
    last_read: Vec<TokenId>,
    passes: u64,
    rows: u64,
}

impl Search<'_> {
    /// The complete texts with their scores, the best first; no more than there are beams.
    fn run(&mut self, length: usize) -> Result<Vec<(f64, Beam)>, Error> {
        let width = self.options.beams;
        let mut beams = vec![Beam { tokens: vec![], sum: 0.0 }];
        let mut done: Vec<(f64, Beam)> = Vec::new();
        for step in 1..=length {
            let candidates = self.candidates(&beams)?;
            let mut next = Vec::new();
            for (rank, Candidate { beam, token, sum }) in candidates.into_iter().enumerate() {
                let longer = || Beam { tokens: [&beams[beam].tokens[..], &[token]].concat(), sum };
                if step == length || self.options.stop_tokens.contains(&token) {
                    // An end that is not among the best is none.
                    if rank < width {
                        done.push((self.score(sum, step), longer()));
                    }
                } else if next.len() < width {
                    next.push(longer());
                }
            }
            // Stable: of equal texts the one that was found first.
            done.sort_by(|a, b| b.0.total_cmp(&a.0));
            done.truncate(width);
            if next.is_empty() || self.ends(&done, next[0].sum, step, length) {
                break;
            }
            beams = next;
        }
        Ok(done)
    }

    fn score(&self, sum: f64, length: usize) -> f64 {
        sum / (length as f64).powf(self.options.length_penalty)
    }

    /// Whether the search ends, the best unfinished text having this sum.
    fn ends(&self, done: &[(f64, Beam)], best: f64, step: usize, length: usize) -> bool {
        let Some((worst, _)) = done.get(self.options.beams - 1) else { return false };
        let at = match self.options.early_stopping {
            EarlyStopping::First => return true,
            // The sum never rises, so that only a penalty above 0 makes growing worth while.
            EarlyStopping::Certain if self.options.length_penalty > 0.0 => length,
            EarlyStopping::Likely | EarlyStopping::Certain => step,
        };
        self.score(best, at) <= *worst
    }

    /// The best ways to go on, so many that as many as beams go on where the others end; the best first, of equal ones
    /// that of the better beam, then of the lower token.
    fn candidates(&mut self, beams: &[Beam]) -> Result<Vec<Candidate>, Error> {
        let endings = self.options.stop_tokens.len().max(1);
        let wanted = self.options.beams.saturating_mul(1 + endings);
        let mut candidates = Vec::new();
        // Neighbours in this order have the most in common, and what they have in common is read once.
        let mut order: Vec<usize> = (0..beams.len()).collect();
        order.sort_by(|&a, &b| beams[a].tokens.cmp(&beams[b].tokens));
        for beam in order {
            let probs = self.read(&beams[beam])?;
            let before = beams[beam].sum;
            let possible = (0..).zip(probs).filter(|(_, p)| *p > 0.0);
            candidates.extend(possible.map(|(token, p): (TokenId, f64)| Candidate {
                beam,
                token,
                sum: before + p.ln(),
            }));
            let better = |a: &Candidate, b: &Candidate| {
                b.sum.total_cmp(&a.sum).then(a.beam.cmp(&b.beam)).then(a.token.cmp(&b.token))
            };
            if candidates.len() > wanted {
                candidates.select_nth_unstable_by(wanted, better);
                candidates.truncate(wanted);
            }
            candidates.sort_unstable_by(better);
        }
        Ok(candidates)
    }

    /// The expert's probabilities after a beam.
    fn read(&mut self, beam: &Beam) -> Result<Vec<f64>, Error> {
        let sequence = [self.prompt, &beam.tokens].concat();
        let common = sequence.iter().zip(&self.last_read).take_while(|(a, b)| a == b).count();
        self.rows += (sequence.len() - common.min(sequence.len() - 1)) as u64;
        self.passes += 1;
        let round = Round {
            sequence: &sequence,
            prompt: self.prompt.len(),
            memory: self.sampler.memory(),
            proposal: &Proposal::empty(),
            sampler: &self.sampler,
            keep_logits: false,
            guide: None,
        };
        let scores = self.engine.verifier.scores(&round).map_err(Error::expert)?;
        self.last_read = sequence;
        Ok(scores.first().map(|scores| scores.probs().to_vec()).unwrap_or_default())
    }
}
