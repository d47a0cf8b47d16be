use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// What became of drafts that were made ahead.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct AheadStats {
    /// Rounds whose draft was ready when it was asked for.
    pub hits: u64,
    /// Rounds for which a part of the draft was ready.
    pub partial: u64,
    /// Rounds that turned out as nothing was ready for, though work had been done ahead.
    pub misses: u64,
    /// Rounds for which nothing was to be made ahead: the first of a text, those while it is off, and those for which it
    /// is not possible.
    pub unprepared: u64,
    /// Drafting that was done while the expert worked and then used.
    pub saved: Duration,
    /// Drafting that was left to do when a draft was asked for, and waiting for the other thread.
    pub waited: Duration,
    /// Whether drafts are made ahead now.
    pub on: bool,
    /// Why they are, or are not.
    pub why: AheadWhy,
}

/// Why drafts are made ahead or not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum AheadWhy {
    /// No draft was asked for yet.
    #[default]
    New,
    /// It was asked for.
    Asked,
    /// Nothing was compared yet; it begins as the options say.
    Begin,
    /// Both are being tried in turns.
    Comparing,
    /// By the time of a token, with it and without.
    Measured {
        /// With drafting ahead.
        with: Duration,
        /// Without.
        without: Duration,
    },
    /// It is not possible here.
    Impossible(&'static str),
}

impl AheadStats {
    /// Share of the rounds for which work was done ahead whose draft was ready, all or in part; `None` without such rounds.
    pub fn hit_rate(&self) -> Option<f64> {
        let tried = self.hits + self.partial + self.misses;
        (tried > 0).then(|| (self.hits + self.partial) as f64 / tried as f64)
    }

    /// Share of the drafting time that was no time at all, because the expert worked meanwhile; `None` without drafts.
    pub fn saved_share(&self) -> Option<f64> {
        let all = (self.saved + self.waited).as_secs_f64();
        (all > 0.0).then(|| self.saved.as_secs_f64() / all)
    }
}

impl fmt::Display for AheadWhy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |time: &Duration| time.as_secs_f64() * 1e3;
        match self {
            Self::New => f.write_str("no draft was asked for"),
            Self::Asked => f.write_str("it was asked for"),
            Self::Begin => f.write_str("that is the first guess, and nothing was compared yet"),
            Self::Comparing => f.write_str("both are being tried in turns"),
            Self::Measured { with, without } => {
                write!(f, "a token takes {:.2} ms with it and {:.2} ms without", ms(with), ms(without))
            }
            Self::Impossible(why) => f.write_str(why),
        }
    }
}

impl fmt::Display for AheadStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = if self.on { "on" } else { "off" };
        write!(f, "drafting ahead is {state}: {}", self.why)?;
        let Some(rate) = self.hit_rate() else { return Ok(()) };
        let tried = self.hits + self.partial + self.misses;
        let share = self.saved_share().unwrap_or(0.0);
        write!(
            f,
            "; of {tried} drafts made ahead {} were ready and {} in part ({:.0} %), which took {:.0} % off the time of drafting",
            self.hits,
            self.partial,
            rate * 100.0,
            share * 100.0
        )
    }
}

/// Reads the numbers of a drafter that is in an engine.
#[derive(Clone, Debug, Default)]
pub struct AheadReport(Arc<Mutex<AheadStats>>);

impl AheadReport {
    /// The numbers so far.
    pub fn stats(&self) -> AheadStats {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut AheadStats)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_make_a_sentence() {
        let mut stats = AheadStats::default();
        assert_eq!(stats.to_string(), "drafting ahead is off: no draft was asked for");
        assert_eq!((stats.hit_rate(), stats.saved_share()), (None, None));
        let ms = Duration::from_millis;
        (stats.hits, stats.partial, stats.misses) = (6, 2, 2);
        (stats.saved, stats.waited) = (ms(30), ms(10));
        (stats.on, stats.why) = (true, AheadWhy::Measured { with: ms(3), without: ms(4) });
        assert_eq!(
            stats.to_string(),
            "drafting ahead is on: a token takes 3.00 ms with it and 4.00 ms without; of 10 drafts made ahead 6 were ready and 2 in part (80 %), which took 75 % off the time of drafting"
        );
    }
}
