//! A drafter of one's own: it proposes the token that last followed the current one.
//!
//! `cargo run --release --example custom_drafter`

use drafthorse::{
    DeviceChoice, Drafter, Engine, ModelError, SessionOptions, TokenId, WeightType, demo,
    drafter::DraftRequest,
    logits::{Draws, Proposal, Scores, Verdict},
    open_device,
};
use std::collections::HashMap;

/// Remembers, across texts, which token followed which.
#[derive(Default)]
struct Bigram {
    next: HashMap<TokenId, TokenId>,
    accepted: usize,
}

impl Drafter for Bigram {
    fn name(&self) -> &'static str {
        "bigram"
    }

    fn propose(
        &mut self,
        sequence: &[TokenId],
        request: &DraftRequest<'_>,
        _draws: &mut dyn Draws,
    ) -> Result<Proposal, ModelError> {
        // The whole sequence, as a new text may have begun; a drafter in earnest would remember how far it read.
        self.next.extend(sequence.windows(2).map(|pair| (pair[0], pair[1])));
        let mut proposal = Proposal::empty();
        let mut last = sequence[sequence.len() - 1];
        while let Some(&token) = self.next.get(&last).filter(|_| proposal.tokens.len() < request.max) {
            proposal.tokens.push(token);
            // Not drawn from a belief: a point mass says so, and keeps the text lawful.
            proposal.scores.push(Scores::point(token, request.vocab));
            last = token;
        }
        Ok(proposal)
    }

    fn observe(&mut self, verdict: &Verdict) {
        self.accepted += verdict.accepted;
        eprintln!("bigram: {} accepted so far", self.accepted);
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let expert = demo::expert(&open_device(DeviceChoice::Auto)?, WeightType::F32)?;
    let tokenizer = expert.tokenizer().ok_or("the demo expert has a tokenizer")?.clone();
    let prompt = tokenizer.encode("Question: Tom has 3 apples and buys 5 more.")?;
    let mut engine = Engine::builder()
        .expert(expert)
        .drafter(Bigram::default())
        .draft_length(3)
        .detokenizer(tokenizer)
        .build()?;
    let options = SessionOptions { max_tokens: 96, ..Default::default() };
    let mut session = engine.session(&prompt, &options)?;
    for step in &mut session {
        print!("{}", step?.text);
    }
    let stats = session.stats();
    println!("\n\n{} of {} drafted tokens were accepted", stats.accepted, stats.drafted);
    Ok(())
}
