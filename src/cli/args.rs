//! What can be said on the command line.

mod drafting;
mod lone;

pub(crate) use drafting::{DraftingArgs, TreeArgs, is_plain, parse_branching, parse_length, parse_shape};
pub(crate) use lone::LoneArgs;

use super::{
    beam::BeamArgs,
    calibrate::CalibrateArgs,
    classify::ClassifyArgs,
    confidence::ConfidenceArgs,
    config::ConfigArgs,
    drafters::{DrafterPart, WayArgs},
    grammar::GrammarArgs,
    guidance::GuidanceArgs,
    inspect::args::InspectArgs,
    laws::LawArgs,
    prompt::PromptArgs,
    prove::args::ProveArgs,
    score::args::ScoreArgs,
    sweep::args::SweepArgs,
    tune::args::TuneArgs,
};
pub(crate) use super::{bench::args::BenchArgs, sampling::SamplingArgs};
use clap::{Args, Parser, Subcommand, ValueEnum};
use drafthorse::{
    AcceptanceRule, DeviceChoice, DraftLength, WeightType,
    logits::{LogProbsOf, LogProbsOptions},
    model::{CacheType, LoadOptions},
    verifier,
};

/// Makes language models generate faster: a drafter proposes tokens, an expert verifies them in one pass.
#[derive(Parser)]
#[command(version, about, max_term_width = 100, args_override_self = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Generate a text
    ///
    /// The text goes to the standard output, and one line of statistics to the standard error. Without
    /// --expert and --drafter the demo pair inside the program is used.
    #[command(visible_alias = "run", args_override_self = true)]
    Generate(Box<GenerateArgs>),
    /// Look at what expert and drafter think of every token of a text
    ///
    /// The prompt, and with --generate the text after it, are read again by both. --html writes one page with
    /// everything in it: the text in colours, the candidates of both sides at every token, what the expert would
    /// say after each of its layers, acceptance and entropy along the text. Otherwise a table is printed.
    #[command(args_override_self = true)]
    Inspect(Box<InspectArgs>),
    /// Say how probable a model finds a text: perplexity, bits per byte, log-probabilities
    ///
    /// Texts longer than the window are read in several: the first scores all its tokens, each further one begins
    /// STRIDE tokens later and scores the tokens that are new. Every token but the first is scored exactly once.
    #[command(args_override_self = true)]
    Score(Box<ScoreArgs>),
    /// Say which of several labels a model would go on with
    ///
    /// A label is scored by the log-probability of its tokens after the prompt. Prompt and label are tokenized
    /// together; what is scored begins with the first token that is not the prompt's own, at the same place for all
    /// labels.
    #[command(args_override_self = true)]
    Classify(Box<ClassifyArgs>),
    /// Measure drafters and draft lengths against plain decoding
    ///
    /// Every prompt is generated with every drafter and draft length and with none (k = 0), in turn, so
    /// that a change of the machine's speed meets all of them. Speedups are ratios within this run. What
    /// forwards and draft steps cost is measured apart from the engine too, and says how much of the
    /// possible speedup the engine reaches; --verify-cost measures only that. For a model without a
    /// tokenizer the prompts are random token ids; `bench-134m` is one that is generated.
    Bench(Box<BenchArgs>),
    /// Find the fastest drafter, rule and draft length for an expert on this machine
    ///
    /// Every drafter that fits is observed and measured against plain decoding, in turn with it; those that do not fit
    /// are named with the reason. What is fastest is written to a file that generate uses.
    #[command(args_override_self = true)]
    Tune(Box<TuneArgs>),
    /// Prove on your own models and device what is promised
    ///
    /// Greedy texts are compared with those of plain decoding (k = 0), token by token; tokens after fixed
    /// prefixes with the law computed from both models apart from the engine (chi-square); accepted tokens
    /// with the probability on paper (binomial); texts of one seed with each other, for rules that promise the
    /// same. Verifiers that are wrong on purpose get the same tests, and each must be found. Exit code 0 where
    /// all is proved, 1 where not.
    #[command(args_override_self = true)]
    Prove(Box<ProveArgs>),
    /// Measure cost against quality of every rule and dial
    ///
    /// Every prompt is written by the expert alone, by the drafter alone, by cascades without speculation and
    /// by speculative decoding with every rule and every value of its dial, in turn. Cost is time and
    /// arithmetic relative to the expert alone; quality is agreement with references where there are some, and
    /// the log-probability under the expert. A sweep that was stopped goes on where it was.
    Sweep(Box<SweepArgs>),
    /// Search for the most probable texts with several beams
    ///
    /// No speculation and no sampling: every step is a pass of the expert for each beam, and takes the best of all
    /// that they go on with. Temperature, seed and the other options of sampling are those of generate.
    #[command(args_override_self = true)]
    Beam(Box<BeamArgs>),
    /// Fit calibrators to recorded confidences, and say how good they are
    Calibrate(CalibrateArgs),
    /// Say whether an expert and a drafter fit together, and why not
    Check(CheckArgs),
    /// List the acceptance rules with their laws and dials
    Rules(RulesArgs),
    /// List the devices of this machine
    Devices,
    /// Print completions for a shell
    Completions(CompletionArgs),
}

#[derive(Args)]
pub(crate) struct CompletionArgs {
    /// The shell
    pub(crate) shell: clap_complete::Shell,
}

#[derive(Args)]
pub(crate) struct RulesArgs {
    /// One JSON object instead of a table
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct CheckArgs {
    /// Folder of the expert, demo, or demo-drafter
    pub(crate) expert: String,
    /// Folder of the drafter, demo, or demo-drafter (both the demo's drafter)
    pub(crate) drafter: String,
    /// One JSON object instead of text
    #[arg(long)]
    pub(crate) json: bool,
}

/// Which models, and where.
#[derive(Args, Clone)]
pub(crate) struct PartArgs {
    /// The model whose text is wanted: a Hugging Face folder, demo, demo-drafter, or bench-134m
    #[arg(
        short = 'm',
        long,
        visible_alias = "model",
        value_name = "DIR",
        default_value = "demo",
        help_heading = "Models"
    )]
    pub(crate) expert: String,
    #[command(flatten)]
    pub(crate) models: ModelArgs,
    /// How drafted tokens are accepted: NAME, or NAME:DIAL=VALUE,... ; `drafthorse rules` lists them. lossless,
    /// block, coupled-noise and exact-match give the expert's own distribution. Without it: lossless
    #[arg(long, value_name = "RULE", value_parser = parse_rule, help_heading = "Models")]
    pub(crate) rule: Option<String>,
    /// The rule's dial of this name: how much is left to the drafter
    #[arg(long, value_name = "X", allow_negative_numbers = true, help_heading = "Models")]
    pub(crate) lenience: Option<f64>,
}

/// How models are held and where they live.
#[derive(Args, Clone)]
pub(crate) struct ModelArgs {
    /// Where the weights and the computation live: auto, cpu, vulkan, vulkan:N, metal or webgpu
    #[arg(long, value_name = "DEVICE", default_value = "auto", help_heading = "Models")]
    pub(crate) device: DeviceChoice,
    /// The drafter's device, where it is another one
    #[arg(long, value_name = "DEVICE", alias = "device-draft", help_heading = "Models")]
    pub(crate) draft_device: Option<DeviceChoice>,
    /// Type in which weights are held, whatever the checkpoint's (bf16 too): fewer bits are read faster.
    /// q8 and q4 are blocks of 32 with a scale (as `Q8_0` and `Q4_0`)
    #[arg(long, visible_alias = "dtype", value_enum, default_value = "f32", help_heading = "Models")]
    pub(crate) weights: Weights,
    /// The drafter's type of weights, where it is another one
    #[arg(long, value_enum, value_name = "WEIGHTS", help_heading = "Models")]
    pub(crate) draft_weights: Option<Weights>,
    /// Type in which keys and values of earlier tokens are held
    #[arg(long, value_enum, default_value = "f32", alias = "kv-cache-dtype", help_heading = "Models")]
    pub(crate) cache_type: Cache,
    /// Processors to compute with; without it, all. Results do not depend on it
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024), help_heading = "Models")]
    pub(crate) threads: Option<u16>,
    /// Shortest suffix the n-gram drafter looks for
    #[arg(long, value_name = "N", default_value_t = 2, help_heading = "Models")]
    pub(crate) ngram_min: usize,
    /// Longest suffix the n-gram drafter looks for
    #[arg(long, value_name = "N", default_value_t = 4, help_heading = "Models")]
    pub(crate) ngram_max: usize,
    #[command(flatten)]
    pub(crate) ways: WayArgs,
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Weights {
    F32,
    F16,
    #[value(alias = "q8_0")]
    Q8,
    #[value(alias = "q4_0")]
    Q4,
}

impl From<Weights> for WeightType {
    fn from(weights: Weights) -> Self {
        match weights {
            Weights::F32 => Self::F32,
            Weights::F16 => Self::F16,
            Weights::Q8 => Self::Q8,
            Weights::Q4 => Self::Q4,
        }
    }
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Cache {
    F32,
    F16,
}

impl From<Cache> for CacheType {
    fn from(cache: Cache) -> Self {
        match cache {
            Cache::F32 => Self::F32,
            Cache::F16 => Self::F16,
        }
    }
}

impl ModelArgs {
    /// How the expert is held, or the drafter.
    pub(crate) fn load_options(&self, drafter: bool) -> LoadOptions {
        let weights = if drafter { self.draft_weights.unwrap_or(self.weights) } else { self.weights };
        LoadOptions { weights: weights.into(), cache: self.cache_type.into() }
    }
}

pub(crate) fn parse_rule(text: &str) -> Result<String, String> {
    verifier::rule(text).map(|_| text.to_owned()).map_err(|error| error.to_string())
}

/// A number of tokens, or -1 for as many as the context has room for.
pub(crate) fn parse_limit(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(limit) => Ok(limit),
        Err(_) if text == "-1" => Ok(usize::MAX),
        Err(_) => Err("write a whole number of tokens, or -1: until the context is full".into()),
    }
}

fn parse_top(text: &str) -> Result<usize, String> {
    text.parse().map_err(|_| "not a number of tokens; with the prompt behind it write --logprobs=N".into())
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum LogProbsMode {
    Raw,
    Processed,
}

#[derive(Args)]
#[allow(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub(crate) struct GenerateArgs {
    #[command(flatten)]
    pub(crate) input: PromptArgs,
    #[command(flatten)]
    pub(crate) parts: PartArgs,
    #[command(flatten)]
    pub(crate) drafting: DraftingArgs,
    #[command(flatten)]
    pub(crate) branches: TreeArgs,
    #[command(flatten)]
    pub(crate) law: LawArgs,
    #[command(flatten)]
    pub(crate) guidance: GuidanceArgs,
    #[command(flatten)]
    pub(crate) sampling: SamplingArgs,
    #[command(flatten)]
    pub(crate) confidence: ConfidenceArgs,
    /// The most tokens to generate; -1 goes on until the context is full
    #[arg(
        short = 'n',
        long,
        visible_alias = "n-predict",
        alias = "max-new-tokens",
        value_name = "N",
        default_value = "128",
        value_parser = parse_limit,
        allow_negative_numbers = true,
        help_heading = "Ending"
    )]
    pub(crate) max_tokens: usize,
    /// End the text before this string; may be repeated
    #[arg(long, value_name = "TEXT", help_heading = "Ending")]
    pub(crate) stop: Vec<String>,
    /// Do not end at the model's end-of-text token
    #[arg(long, help_heading = "Ending")]
    pub(crate) ignore_eos: bool,
    #[command(flatten)]
    pub(crate) grammar: GrammarArgs,
    /// One JSON object with text, tokens and statistics instead of streamed text
    #[arg(long, help_heading = "Output")]
    pub(crate) json: bool,
    /// In the JSON, the expert's log-probability of each token, and of the N most probable tokens at its position.
    /// Before a prompt write --logprobs=N
    #[arg(long, visible_alias = "n-probs", value_name = "N", num_args = 0..=1, default_missing_value = "0", value_parser = parse_top, requires = "json", help_heading = "Output")]
    pub(crate) logprobs: Option<usize>,
    /// raw: the expert's own law. processed: the expert's law after all sampling options; null where it excludes the
    /// token (possible under lossy rules)
    #[arg(
        long,
        value_enum,
        value_name = "LAW",
        default_value = "raw",
        requires = "logprobs",
        help_heading = "Output"
    )]
    pub(crate) logprobs_mode: LogProbsMode,
    /// Also decode without drafts (k = 0), three times each in turn, and say how much faster drafting was
    #[arg(long, help_heading = "Output")]
    pub(crate) compare: bool,
    /// Colour tokens: drafted green, those that a grammar forced cyan, drafted ones that a cascade asked the expert
    /// about yellow, replacements red, bonus tokens plain
    #[arg(long, visible_alias = "colour-tokens", conflicts_with = "json", help_heading = "Output")]
    pub(crate) color_tokens: bool,
    /// Print the prompt before the text
    #[arg(long, conflicts_with = "json", help_heading = "Output")]
    pub(crate) echo: bool,
    /// Do not use what `drafthorse tune` found for this expert
    #[arg(long, help_heading = "Models")]
    pub(crate) no_tuned: bool,
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
    /// No line of statistics
    #[arg(short = 'q', long, conflicts_with = "compare", help_heading = "Output")]
    pub(crate) quiet: bool,
}

/// Tokens drafted a round where a grammar alone drafts.
const FORCED: usize = 4;

impl GenerateArgs {
    /// Tokens to draft a round.
    pub(crate) fn draft_length(&self, drafter: &DrafterPart, rule: &dyn AcceptanceRule) -> DraftLength {
        // What a grammar forces needs no drafter.
        if drafter.is_none() && self.grammar.is_given() {
            return self.drafting.draft_length.clone().unwrap_or(FORCED.into());
        }
        self.drafting.length(drafter, &self.sampling, rule)
    }

    /// Which log-probabilities are wanted.
    pub(crate) fn log_probs(&self) -> Option<LogProbsOptions> {
        let of = match self.logprobs_mode {
            LogProbsMode::Raw => LogProbsOf::Raw,
            LogProbsMode::Processed => LogProbsOf::Processed,
        };
        self.logprobs.map(|top| LogProbsOptions { top, of })
    }
}
