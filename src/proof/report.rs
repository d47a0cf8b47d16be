//! What was tested, and what came out.

use drafthorse_logits::TokenId;
use serde::Serialize;

/// What is compared in a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum TestKind {
    /// Greedy texts with those of plain decoding (k = 0), token by token.
    GreedyIdentity,
    /// Sampled texts with those of plain decoding and the same seed, for rules that promise the same.
    SeedIdentity,
    /// How often tokens follow a prefix, with the law on paper.
    NextToken,
    /// How often tokens follow the first one, with the law on paper.
    SecondToken,
    /// How often the first drafted token is accepted, with the probability on paper.
    AcceptedFirst,
    /// How often the second drafted token is, after an accepted first one.
    AcceptedSecond,
}

impl TestKind {
    /// The kind in words.
    pub fn label(self) -> &'static str {
        match self {
            Self::GreedyIdentity => "greedy identity",
            Self::SeedIdentity => "identity by seed",
            Self::NextToken => "law of the next token",
            Self::SecondToken => "law of the second token",
            Self::AcceptedFirst => "accepted length, 1 or more",
            Self::AcceptedSecond => "accepted length, 2 or more",
        }
    }
}

/// How a test ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Outcome {
    /// Nothing contradicts the promise.
    Passed,
    /// Texts differ where the two best tokens are closer than the device's rounding.
    NearTies,
    /// The promise is broken.
    Failed,
    /// There was nothing to compare.
    Untested,
}

/// The two best tokens of a row of logits.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[allow(clippy::exhaustive_structs)]
pub struct TopTwo {
    /// The best and the second.
    pub tokens: [TokenId; 2],
    /// Their logits.
    pub logits: [f32; 2],
}

impl TopTwo {
    /// How far the best token is ahead.
    pub fn gap(&self) -> f32 {
        self.logits[0] - self.logits[1]
    }
}

/// Why two texts differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Cause {
    /// The passes differ by rounding, and that is enough.
    Rounding,
    /// The passes differ by more than rounding.
    Passes,
    /// The passes agree, and yet another token was taken.
    Decision,
}

impl Cause {
    /// The cause in words.
    pub fn label(self) -> &'static str {
        match self {
            Self::Rounding => "a near tie: the device rounds differently for more rows",
            Self::Passes => "the passes disagree by more than rounding",
            Self::Decision => "the passes agree, so the rule or the engine is wrong",
        }
    }
}

/// The first difference between a text and that of plain decoding.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Difference {
    /// The prompt's index.
    pub prompt: usize,
    /// Tokens of the text before it.
    pub position: usize,
    /// The token of plain decoding.
    pub plain: TokenId,
    /// The token with drafts.
    pub speculative: TokenId,
    /// Rows of the verify pass.
    pub rows: usize,
    /// What the pass of one row says.
    pub plain_pass: TopTwo,
    /// What the verify pass says.
    pub verify_pass: TopTwo,
    /// The largest difference between logits of the two passes.
    pub logit_difference: f32,
    /// The total variation between the laws that are sampled after the two passes.
    pub total_variation: f64,
    /// Why they differ.
    pub cause: Cause,
}

/// A test and its result.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Test {
    /// What is compared.
    pub kind: TestKind,
    /// The rule.
    pub rule: String,
    /// The draft length.
    pub k: usize,
    /// Where: the prefix, or how many texts.
    pub at: String,
    /// Texts, or of them those that count.
    pub samples: u64,
    /// Chi-square, infinite (`null` in JSON) where a token came that the law excludes; the share of accepted tokens; the number of texts that differ.
    pub statistic: f64,
    /// Degrees of freedom of a chi-square.
    pub degrees: Option<usize>,
    /// What the statistic shall be, where that is one number.
    pub expected: Option<f64>,
    /// The probability of a statistic as far off as this if the promise is kept.
    pub p: Option<f64>,
    /// How it ended.
    pub outcome: Outcome,
    /// Of a chi-square the token that is farthest off.
    pub farthest: Option<Farthest>,
    /// The first difference of each text that differs.
    pub differences: Vec<Difference>,
}

/// A token that comes too often or too seldom.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[allow(clippy::exhaustive_structs)]
pub struct Farthest {
    /// The token.
    pub token: TokenId,
    /// How often it came.
    pub seen: u64,
    /// How often it is expected.
    pub expected: f64,
}

/// A verifier that is wrong on purpose, and what found it out.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Control {
    /// What is wrong with it.
    pub name: String,
    /// The tests it was given.
    pub tests: usize,
    /// Those that it failed, the clearest first.
    pub failed: Vec<Test>,
}

/// A prefix after which laws were tested.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Place {
    /// Its name in the tests.
    pub label: String,
    /// Tokens.
    pub tokens: usize,
    /// Total variation between drafter and expert there.
    pub total_variation: f64,
    /// The first token after which the second is tested.
    pub first_token: TokenId,
}

/// Everything that was tested.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Report {
    /// Whether all was proved: no test failed, and every wrong verifier did.
    pub proved: bool,
    /// The probability that a right engine fails any of the tests.
    pub level: f64,
    /// The p-value below which a test fails: the level / the number of p-values (Bonferroni).
    pub threshold: f64,
    /// The prefixes.
    pub places: Vec<Place>,
    /// The tests of the rules.
    pub tests: Vec<Test>,
    /// The wrong verifiers.
    pub controls: Vec<Control>,
}

impl Report {
    /// Decides all tests by their p-values.
    pub(super) fn new(
        level: f64,
        places: Vec<Place>,
        mut tests: Vec<Test>,
        controls: Vec<(String, Vec<Test>)>,
    ) -> Self {
        let values = tests.iter().filter(|test| test.p.is_some()).count();
        let threshold = level / values.max(1) as f64;
        decide(&mut tests, threshold);
        let control = |(name, mut tests): (String, Vec<Test>)| {
            decide(&mut tests, threshold);
            let count = tests.len();
            tests.retain(|test| test.outcome == Outcome::Failed);
            tests.sort_by(|a, b| a.p.unwrap_or(0.0).total_cmp(&b.p.unwrap_or(0.0)));
            Control { name, tests: count, failed: tests }
        };
        let controls: Vec<_> = controls.into_iter().map(control).collect();
        let proved = tests.iter().all(|test| test.outcome != Outcome::Failed)
            && controls.iter().all(|control| !control.failed.is_empty());
        Self { proved, level, threshold, places, tests, controls }
    }

    /// The tests that failed.
    pub fn failed(&self) -> impl Iterator<Item = &Test> {
        self.tests.iter().filter(|test| test.outcome == Outcome::Failed)
    }

    /// The wrong verifiers that passed every test.
    pub fn missed(&self) -> impl Iterator<Item = &Control> {
        self.controls.iter().filter(|control| control.failed.is_empty())
    }
}

fn decide(tests: &mut [Test], threshold: f64) {
    for test in tests.iter_mut().filter(|test| test.p.is_some_and(|p| p < threshold)) {
        test.outcome = Outcome::Failed;
    }
}
