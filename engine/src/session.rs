use crate::{
    Adaptive, Engine, Error, ErrorKind, Finish, Provenance, SessionOptions, Stats, Step, StepToken,
    compatible::check_rule,
    constrained::Constrained,
    decide::Decided,
    draft::Draft,
    emit::{Emitter, Ends},
    guess::Guessing,
    length::{Bounds, Plan},
    lengths,
    tree::check_tree,
    watch::Watch,
};
use drafthorse_logits::{
    Draws, LogProbsOptions, Memory, Origin, Sampler, SamplingOptions, TokenId, TreePlan, Verdict,
    drift::{Drift, DriftWarning},
};
use drafthorse_verifier::{AcceptanceRule, Guide, Reading, Round};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// A text in the making: an iterator of its rounds. Dropping it stops the generation.
///
/// After an error it ends; what was generated before has been given out.
pub struct Session<'a> {
    pub(crate) engine: &'a mut Engine,
    pub(crate) rule: Arc<dyn AcceptanceRule>,
    pub(crate) sampler: Sampler,
    /// The drafter's, which under a constraint is another one.
    pub(crate) draft_sampler: Sampler,
    pub(crate) constrained: Option<Constrained>,
    pub(crate) draws: Box<dyn Draws + 'a>,
    /// What is drafted instead of a chain.
    pub(crate) tree: Option<TreePlan>,
    pub(crate) bounds: Bounds,
    /// What this round may draft.
    pub(crate) plan: Plan,
    /// How much of the sequence the drafter has read, about.
    pub(crate) read: usize,
    measure_price: bool,
    pub(crate) log_probs: Option<LogProbsOptions>,
    pub(crate) guide: Option<Guide>,
    pub(crate) sequence: Vec<TokenId>,
    pub(crate) prompt: usize,
    pub(crate) memory: Memory,
    pub(crate) emitter: Emitter,
    pub(crate) watch: Watch,
    pub(crate) guessing: Guessing,
    pub(crate) stats: Stats,
    state: State,
}

enum State {
    /// The prompt is not read yet.
    New,
    Running,
    /// An error to be given out after the text that was held back.
    Failed(Error),
    Ended,
}

impl State {
    /// Of a round with which the text broke off or was finished, or neither.
    fn after(error: Option<Error>, finished: bool) -> Self {
        match error {
            Some(error) => Self::Failed(error),
            None if finished => Self::Ended,
            None => Self::Running,
        }
    }
}

impl std::fmt::Debug for Session<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Session {{ {} tokens after a prompt of {} }}", self.generated().len(), self.prompt)
    }
}

impl<'a> Session<'a> {
    pub(crate) fn new(
        engine: &'a mut Engine,
        prompt: &[TokenId],
        options: &SessionOptions,
        draws: Box<dyn Draws + 'a>,
    ) -> Result<Self, Error> {
        let plain = Sampler::new(&sampling(options))?.seeded(options.seed);
        let sampler = options.processors.iter().cloned().fold(plain, Sampler::with_processor);
        sampler.check_vocabulary(engine.verifier.vocab_size())?;
        let rule = options.rule.clone().unwrap_or_else(|| engine.rule.clone());
        check_rule(&*engine.drafter, &*rule)?;
        check_prompt(prompt, engine)?;
        check_ending(options, engine)?;
        let draft_length = options.draft_length.as_ref().unwrap_or(&engine.draft_length);
        draft_length.check()?;
        let depth =
            options.tree.as_ref().map(|plan| check_tree(plan, options, &*rule, engine)).transpose()?;
        let watch = Watch::new(options)?;
        let way = lengths::way(options, &*rule, &sampler, (&engine.verifier, &*engine.drafter, &watch));
        let bounds = match depth {
            Some(depth) if way.trees.is_some() => engine.learnt.bounds(&Adaptive::up_to(depth).into(), way),
            Some(depth) => engine.learnt.bounds(&depth.into(), way),
            None => engine.learnt.bounds(draft_length, way),
        };
        let constrained = Constrained::of(options, engine.verifier.vocab_size())?;
        let (sampler, draft_sampler) = match &constrained {
            Some(constrained) => constrained.samplers(&sampler),
            None => (sampler.clone(), sampler),
        };
        let mut longest = prompt.len();
        if let Some(guide) = &options.guide {
            check_tokens("negative prompt", &guide.negative, engine)?;
            longest = longest.max(guide.negative.len());
        }
        let room = engine.verifier.context_len() - longest;
        let (left, limit) = if options.max_tokens <= room {
            (options.max_tokens, Finish::MaxTokens)
        } else {
            (room, Finish::ContextEnd)
        };
        let decoder = engine.detokenizer.as_ref().map(|detokenizer| detokenizer.text_after(prompt));
        let (strings, tokens) = (options.stop_strings.clone(), options.stop_tokens.clone());
        Ok(Self {
            emitter: Emitter::new(decoder, strings, tokens, left, limit),
            tree: options.tree.clone(),
            bounds,
            plan: Plan::default(),
            read: 0,
            watch,
            guessing: Guessing::default(),
            measure_price: options.measure_price,
            log_probs: options.log_probs,
            guide: options.guide.clone(),
            engine,
            rule,
            memory: sampler.memory(),
            sampler,
            draft_sampler,
            constrained,
            draws,
            sequence: prompt.to_vec(),
            prompt: prompt.len(),
            stats: Stats::default(),
            state: State::New,
        })
    }

    /// The numbers so far.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// What is to be said about the expert's certainty so far, against the reference of the options; nothing before
    /// [`Drift::POSITIONS`] tokens.
    pub fn drift(&self) -> Option<DriftWarning> {
        self.watched().and_then(Drift::check)
    }

    /// What was counted for [`drift`](Self::drift), to be merged with that of other texts; `None` without a reference.
    pub fn watched(&self) -> Option<&Drift> {
        self.watch.drift()
    }

    /// The tokens generated so far.
    pub fn generated(&self) -> &[TokenId] {
        &self.sequence[self.prompt..]
    }

    /// Prompt and generated tokens.
    pub fn sequence(&self) -> &[TokenId] {
        &self.sequence
    }

    /// Reads all of the prompt but its last token, which the first round reads.
    fn read_prompt(&mut self) -> Result<(), Error> {
        let start = Instant::now();
        let ahead = &self.sequence[..self.prompt - 1];
        if !ahead.is_empty() {
            self.engine.verifier.prepare(ahead).map_err(Error::expert)?;
            self.prepare_drafter()?;
        }
        if let Some((_, ahead)) = self.guide.as_ref().and_then(|guide| guide.negative.split_last())
            && !ahead.is_empty()
        {
            self.engine.verifier.prepare_guide(ahead).map_err(Error::expert)?;
        }
        self.stats.prompt_time = start.elapsed();
        Ok(())
    }

    fn round(&mut self) -> Result<Step, Error> {
        let start = Instant::now();
        self.draws.begin_round(self.stats.rounds + 1);
        if let Some(constrained) = &self.constrained {
            constrained.begin_round(self.generated().len());
        }
        let Decided { draft, reading, verdict, tree, draft_time, verify_time } = self.decide(start)?;
        let round = Round {
            sequence: &self.sequence,
            prompt: self.prompt,
            memory: self.memory,
            proposal: &draft.proposal,
            sampler: &self.sampler,
            keep_logits: self.keeps_logits(),
            guide: self.guide.as_ref(),
        };
        let mut deferrals = reading.deferrals(&round, &*self.rule, &verdict);
        draft.clear_forced(&mut deferrals);
        let (right, refused) = draft.guessed(&verdict);
        self.guessing.learn(right, refused);
        let mut tokens = tokens(&draft, verdict, &deferrals);
        let complete = self.keep_allowed(&mut tokens)?;
        let certainties = self.watch.certainties(&reading, tokens.len());
        let ends = Ends { complete, unsure: self.watch.give_up(&certainties) };
        let mut emitted = self.emitter.emit(&tokens, ends);
        self.watch.note(&mut emitted.tokens, &certainties);
        note_log_probs(&mut emitted.tokens, &reading, self.log_probs);
        let (counts, nodes) = (draft.counts(&verdict), tree.as_ref().map(|tree| tree.nodes));
        let mut step = Step {
            tokens: emitted.tokens,
            text: emitted.text,
            asked: self.asked_for(),
            drafted: nodes.unwrap_or(counts.drafted),
            examined: counts.examined,
            accepted: counts.accepted,
            forced: counts.forced,
            forced_accepted: counts.forced_accepted,
            depth: tree.as_ref().map_or(counts.drafted, |tree| tree.depth),
            ranks: tree.map_or_else(Vec::new, |tree| tree.ranks),
            draft_time,
            verify_time,
            other_time: Duration::ZERO,
            price: None,
            judged: self.watch.judged(&draft, &verdict),
            agreed: self.watch.agreed(&draft, &reading, &verdict),
            finish: emitted.finish,
        };
        step.other_time = start.elapsed().saturating_sub(draft_time + verify_time);
        if self.measure_price {
            step.price = reading.price(&round, &*self.rule, &deferrals, step.tokens.len());
        }
        self.memory = reading.remember(&round, step.tokens.iter().map(|token| token.id));
        self.learn_length(&draft, &verdict, &step);
        self.sequence.extend(step.tokens.iter().map(|token| token.id));
        self.stats.add(&step);
        self.state = State::after(emitted.error, step.finish.is_some());
        if step.finish.is_some() {
            self.engine.drafter.end(&self.sequence, self.prompt);
        }
        if !matches!(self.state, State::Running) {
            self.engine.drafter.rest();
        }
        Ok(step)
    }

    /// Ends the session: text that was held back comes first, then the error.
    fn fail(&mut self, error: Error) -> Result<Step, Error> {
        // A second error, from the held back text, would hide the first.
        let (held, _) = self.emitter.flush();
        if held.is_empty() {
            self.state = State::Ended;
            return Err(error);
        }
        self.state = State::Failed(error);
        Ok(Step::text_only(held))
    }
}

impl Drop for Session<'_> {
    /// Nobody waits for drafts any more.
    fn drop(&mut self) {
        self.engine.drafter.rest();
    }
}

impl Iterator for Session<'_> {
    type Item = Result<Step, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let ready = match std::mem::replace(&mut self.state, State::Ended) {
            State::Ended => return None,
            State::Failed(error) => return Some(self.fail(error)),
            State::New => self.read_prompt(),
            State::Running => Ok(()),
        };
        Some(ready.and_then(|()| self.round()).or_else(|error| self.fail(error)))
    }
}

/// Gives the tokens of a round their log-probabilities, if they are wanted.
fn note_log_probs(tokens: &mut [StepToken], reading: &Reading, wanted: Option<LogProbsOptions>) {
    let Some(options) = wanted else { return };
    for (index, token) in tokens.iter_mut().enumerate() {
        token.log_probs = reading.log_probs(index, token.id, options);
    }
}

/// The tokens of a round with where they come from.
fn tokens(draft: &Draft, verdict: Verdict, deferrals: &[Option<bool>]) -> Vec<(TokenId, Provenance)> {
    let last = match verdict.origin {
        Origin::Replacement => Provenance::Replacement,
        Origin::Bonus => Provenance::Bonus,
    };
    let of = |(index, deferral): (usize, &Option<bool>)| match deferral {
        _ if draft.is_forced(index) => Provenance::Forced,
        Some(true) => Provenance::Deferred,
        _ => Provenance::Drafted,
    };
    let accepted = draft.proposal.tokens[..verdict.accepted].iter().copied();
    accepted.zip(deferrals.iter().enumerate().map(of)).chain([(verdict.next, last)]).collect()
}

/// The options, with the stop tokens as what ends a text where nothing else does.
pub(crate) fn sampling(options: &SessionOptions) -> SamplingOptions {
    let mut sampling = options.sampling.clone();
    if sampling.min_tokens > 0 && sampling.end_tokens.is_empty() {
        sampling.end_tokens.clone_from(&options.stop_tokens);
    }
    sampling
}

pub(crate) fn check_prompt(prompt: &[TokenId], engine: &Engine) -> Result<(), Error> {
    check_tokens("prompt", prompt, engine)
}

fn check_tokens(what: &str, prompt: &[TokenId], engine: &Engine) -> Result<(), Error> {
    let fail = |message: String| Err(Error::new(ErrorKind::Prompt, message));
    let (vocab, context) = (engine.verifier.vocab_size(), engine.verifier.context_len());
    if prompt.is_empty() {
        return fail(format!("the {what} is empty; a model needs at least one token to begin with"));
    }
    if prompt.len() >= context {
        let length = prompt.len();
        return fail(format!(
            "a {what} of {length} tokens leaves no room in the expert's context of {context}; shorten it to {} or fewer",
            context - 1
        ));
    }
    match prompt.iter().find(|&&token| token as usize >= vocab) {
        Some(token) => fail(format!(
            "token {token} of the {what} is outside the vocabulary of {vocab} tokens; is it from another tokenizer?"
        )),
        None => Ok(()),
    }
}

pub(crate) fn check_ending(options: &SessionOptions, engine: &Engine) -> Result<(), Error> {
    let fail = |message: &str| Err(Error::new(ErrorKind::Option, message));
    if options.max_tokens == 0 {
        return fail("max tokens is 0; at least 1 is needed");
    }
    let vocab = engine.verifier.vocab_size();
    if let Some(token) = options.stop_tokens.iter().find(|&&token| token as usize >= vocab) {
        return fail(&format!(
            "stop token {token} is outside the vocabulary of {vocab} tokens and would never come; is it of another model?"
        ));
    }
    if options.stop_strings.iter().any(String::is_empty) {
        return fail("a stop string is empty; it would end every text at once");
    }
    if !options.stop_strings.is_empty() && engine.detokenizer.is_none() {
        return fail("stop strings need text, and this engine has no detokenizer; use stop tokens");
    }
    Ok(())
}
