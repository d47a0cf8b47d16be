/// Whether it pays to guess how a forced text is written in tokens: where a grammar leaves one text but several ways to
/// write it, the expert may write another than the tokenizer, and a refused guess costs rows of the pass and takes the
/// drafter's place.
///
/// It goes by what became of earlier guesses alone, so that the law of the text stays what it is.
#[derive(Debug, Default)]
pub(crate) struct Guessing {
    right: usize,
    wrong: usize,
    paused: usize,
}

/// After guesses that were more often wrong than right, every so many rounds there is another.
const PAUSE: usize = 8;
/// About as many guesses are remembered.
const MEMORY: usize = 16;

impl Guessing {
    /// Whether this round may guess.
    pub(crate) fn begin_round(&mut self) -> bool {
        if self.wrong <= self.right {
            return true;
        }
        self.paused += 1;
        self.paused.is_multiple_of(PAUSE)
    }

    /// What became of the guesses of a round: so many stood, and perhaps one was refused.
    pub(crate) fn learn(&mut self, right: usize, refused: bool) {
        self.right += right;
        self.wrong += usize::from(refused);
        while self.right + self.wrong > MEMORY {
            self.right /= 2;
            self.wrong /= 2;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_guesses_pause_and_right_ones_come_back() {
        let mut guessing = Guessing::default();
        assert!(guessing.begin_round());
        guessing.learn(3, true);
        assert!(guessing.begin_round(), "more were right");
        for _ in 0..4 {
            guessing.learn(0, true);
        }
        let allowed = (0..16).filter(|_| guessing.begin_round()).count();
        assert_eq!(allowed, 2, "one round in eight");
        guessing.learn(9, false);
        assert!(guessing.begin_round());
    }

    #[test]
    fn what_is_long_past_is_forgotten() {
        let mut guessing = Guessing::default();
        guessing.learn(1000, false);
        for _ in 0..20 {
            guessing.learn(0, true);
        }
        assert!((0..7).all(|_| !guessing.begin_round()));
    }
}
