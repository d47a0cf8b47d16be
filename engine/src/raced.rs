use drafthorse_logits::{Draws, Probs, Purpose, SeededDraws, TokenId};

/// Draws whose drafts follow the noise of their position, which the expert's draw there will follow too.
pub(crate) struct Raced<'a>(pub(crate) &'a mut dyn Draws);

impl Draws for Raced<'_> {
    fn accept(&mut self, position: usize, probability: f64) -> bool {
        self.0.accept(position, probability)
    }

    fn pick(&mut self, position: usize, purpose: Purpose, probs: &Probs) -> TokenId {
        match purpose {
            Purpose::Draft => self.0.race(position, probs),
            Purpose::Replacement | Purpose::Target => self.0.pick(position, purpose, probs),
        }
    }

    fn accept_candidate(&mut self, position: usize, candidate: usize, probability: f64) -> bool {
        self.0.accept_candidate(position, candidate, probability)
    }

    /// Without those before it, the next to arrive.
    fn pick_candidate(&mut self, position: usize, _candidate: usize, probs: &Probs) -> TokenId {
        self.0.race(position, probs)
    }

    fn race(&mut self, position: usize, probs: &Probs) -> TokenId {
        self.0.race(position, probs)
    }

    fn ahead(&self, rounds: u64) -> Option<SeededDraws> {
        self.0.ahead(rounds).map(SeededDraws::raced)
    }
}
