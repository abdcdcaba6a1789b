//! What the command line asks of the demo.

use spanring::DriverChoice;

/// The options, in the order in which people need them.
pub const USAGE: &str = "usage: spanring demo [options]

Records a load on a few threads, exports it to a collector inside this process, and compares what the ledger says with what
the collector counted. Exit code 1: they disagree, the ledger does not close, or spans could not be delivered. 2: bad usage.

  --seconds N        how long to record; 3
  --rate N           spans a second, all threads together; 50000. 0 is flat out: what has no room is lost, and counted
  --threads N        recording threads; 2
  --workload NAME    shop: requests of three spans with attributes, events, now and then an error (the default)
                     w1: single root server spans with five attributes, as in the benches
  --endpoint URL     send there, and start no collector: http://host:4318, https://…, unix:///run/otel.sock
  --decode           the collector decodes each span and looks for duplicates, at 50 bytes of memory a span. It does so anyway,
                     up to four million spans (rate times seconds); beyond that, and flat out, it only counts them
  --driver NAME      auto (the default), uring or poll
  --connections N    connections to the collector at most, 1 to 16; 4
  --memory MIB       the engine's memory; 32
  --json             one JSON object on standard output, instead of the report";

/// What is to be done.
pub enum Asked {
    Run(Options),
    Help,
}

/// How the demo runs.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Options {
    pub seconds: u64,
    /// Spans a second, all threads together; zero is as fast as it goes.
    pub rate: u64,
    pub threads: u64,
    pub workload: Workload,
    /// `None` is a collector of the demo's own.
    pub endpoint: Option<String>,
    pub decode: bool,
    pub driver: DriverChoice,
    /// `None` is the engine's default.
    pub connections: Option<usize>,
    /// `None` is the engine's default.
    pub memory_mib: Option<usize>,
    pub json: bool,
}

/// What a thread records again and again.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Workload {
    /// A request to a small shop: a root and two children.
    Shop,
    /// One root server span with five attributes.
    W1,
}

impl Workload {
    /// As it is written on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Shop => "shop",
            Self::W1 => "w1",
        }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            seconds: 3,
            rate: 50_000,
            threads: 2,
            workload: Workload::Shop,
            endpoint: None,
            decode: false,
            driver: DriverChoice::Auto,
            connections: None,
            memory_mib: None,
            json: false,
        }
    }
}

impl Options {
    /// Reads the words after `demo`; an error says what is wrong and what would do.
    pub fn parse(mut words: impl Iterator<Item = String>) -> Result<Asked, String> {
        let mut options = Self::default();
        while let Some(name) = words.next() {
            let mut value = |wanted: &str| words.next().ok_or_else(|| format!("{name} wants {wanted}"));
            let mut number = |min: u64, max: u64| {
                let wanted = format!("a number from {min} to {max}");
                let word = value(&wanted)?;
                let number = word.parse().ok().filter(|number| (min..=max).contains(number));
                number.ok_or_else(|| format!("{name} wants {wanted}, not {word:?}"))
            };
            match name.as_str() {
                "--" => {} // as in `cargo demo -- --rate 0`
                "--seconds" => options.seconds = number(1, 3600)?,
                "--rate" => options.rate = number(0, 1_000_000_000)?,
                "--threads" => options.threads = number(1, 1024)?,
                "--connections" => options.connections = usize::try_from(number(1, 16)?).ok(),
                "--memory" => options.memory_mib = usize::try_from(number(1, 16 << 10)?).ok(),
                "--workload" => {
                    let word = value("shop or w1")?;
                    let found = [Workload::Shop, Workload::W1].into_iter().find(|workload| workload.name() == word);
                    options.workload = found.ok_or_else(|| format!("--workload wants shop or w1, not {word:?}"))?;
                }
                "--driver" => {
                    let word = value("auto, uring or poll")?;
                    let driver = word.parse().map_err(|_| format!("--driver wants auto, uring or poll, not {word:?}"));
                    options.driver = driver?;
                }
                "--endpoint" => options.endpoint = Some(value("a URL, as in http://127.0.0.1:4318")?),
                "--decode" => options.decode = true,
                "--json" => options.json = true,
                "--help" | "-h" => return Ok(Asked::Help),
                _ => return Err(format!("unknown option {name:?}")),
            }
        }
        if options.decode && options.endpoint.is_some() {
            return Err("--decode is for the demo's own collector, and --endpoint names another: leave one out".into());
        }
        Ok(Asked::Run(options))
    }

    /// Whether the demo's collector decodes what it gets. Flat out it would take the core that the load is to have, and
    /// over a long run the memory of the machine.
    pub fn decodes(&self) -> bool {
        self.decode || (1..=DECODED_SPANS_MAX).contains(&(self.rate * self.seconds))
    }
}

/// The collector remembers the ids of what it decodes: this many take 200 MiB.
const DECODED_SPANS_MAX: u64 = 4_000_000;
