//! The whole story in two minutes, nothing to install: a camera drives through a tunnel, and the central
//! recording is whole again.
//!
//! Everything is real but the camera and the link: the embedded broker, the server, the agent's code and
//! the files. What is printed is what the server says of itself.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use reconciler::config::Config;
use reconciler::ledger::Piece;
use reconciler::reconcile::Event;
use reconciler::server::Server;
use reconciler::timeline::{Completeness, Recorder, State, Stretch};
use sdcard_indexer::coverage::Coverage;
use sdcard_indexer::time::{TimeRange, Timestamp};
use tests::camera::{Camera, Pace, Recording, Ring};
use tests::clip::Clip;
use tests::link::{Cut, Direction, Link, Shape};
use tests::naming::Naming;
use tokio::sync::{broadcast, oneshot};
use tokio::time::Instant;

/// A camera loses its network, keeps recording to its card, and the archive is made whole.
#[derive(Parser, Debug)]
#[command(name = "gapless-demo", version)]
struct Options {
    /// How long the network is away
    #[arg(long, default_value = "20s", value_parser = seconds)]
    tunnel: Duration,
    /// How long all is well before that
    #[arg(long, default_value = "12s", value_parser = seconds)]
    before: Duration,
    /// Cameras that drive through the tunnel together
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=20))]
    cameras: u16,
    /// Length of the recorders' files, in seconds
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=60))]
    segment: u32,
    /// Where everything is written; must not exist yet [default: a new folder for temporary files]
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
    /// When the story is over, keep the page until Ctrl-C; in a terminal it is kept anyway
    #[arg(long)]
    stay: bool,
}

/// `45s`, `2m` or plain seconds.
fn seconds(text: &str) -> Result<Duration, String> {
    let (number, unit) = match text.strip_suffix('m') {
        Some(minutes) => (minutes, 60),
        None => (text.strip_suffix('s').unwrap_or(text), 1),
    };
    match number.parse::<u64>() {
        Ok(number @ 1..=3600) => Ok(Duration::from_secs(number * unit)),
        _ => Err(format!("`{text}` is no duration from 1s to 3600s: write 45s or 2m")),
    }
}

/// After this long without becoming whole the demo says that it failed.
const PATIENCE: Duration = Duration::from_secs(60);
/// Younger holes are not judged; the simulated recorder writes once a second.
const SETTLE_S: u64 = 3;

#[tokio::main]
async fn main() -> ExitCode {
    match demonstrate(Options::parse()).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("gapless-demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn demonstrate(options: Options) -> anyhow::Result<bool> {
    let folder = new_folder(options.folder.as_deref())?;
    let server = Server::start(server_config(&folder)?).await?;
    let broker = server.broker_address().context("the embedded broker has no address")?;
    let page = server.http_address().context("the page has no address")?;
    let mut watched = Watched::new(server.events(), options.cameras);
    let (stop_server, server_stopped) = oneshot::channel::<()>();
    let server = tokio::spawn(server.run(async move {
        // A dropped sender stops it too.
        let _ = server_stopped.await;
    }));

    println!("Everything below is in {}", folder.display());
    println!("Watch it in a browser: http://{page}/\n");
    let pace = Pace::real_time()?;
    let mut trains = Vec::new();
    for number in 1..=options.cameras {
        trains.push(
            Train::depart(&folder, &format!("camera-{number}"), broker, pace, &options).await?,
        );
    }
    watched.say("the cameras record to their cards, and to the archive through the network");
    watched.follow(Instant::now() + options.before, |_| false).await?;

    for train in &trains {
        train.link.cut(Cut::Reset);
    }
    watched.say("into the tunnel: the network is gone, the cards go on");
    watched.follow(Instant::now() + options.tunnel, |_| false).await?;

    let back = Instant::now();
    let sent_before: Vec<u64> = trains.iter().map(Train::sent_bytes).collect();
    for train in &trains {
        train.link.restore();
    }
    watched.say("out of the tunnel: the network is back");
    let hole_has_settled = back + Duration::from_secs(SETTLE_S + 2);
    watched.follow(hole_has_settled, |_| false).await?;
    let whole = watched.follow(back + PATIENCE, Watched::is_whole).await?;
    let took = back.elapsed();

    let sent: Vec<u64> =
        trains.iter().zip(&sent_before).map(|(t, before)| t.sent_bytes() - before).collect();
    watched.finish();
    for (train, sent) in trains.iter().zip(sent) {
        watched.report(&train.name, &folder, sent);
    }
    let config = folder.join("gapless.toml");
    println!("\nLook at it yourself:");
    println!(
        "  cargo run --release --bin gapless -- --config {} timeline camera-1",
        config.display()
    );
    if whole {
        println!("\nWhole again {:.1} s after the network came back.", took.as_secs_f64());
    } else {
        println!(
            "\nNOT whole {} s after the network came back: please report this.",
            PATIENCE.as_secs()
        );
    }
    if options.stay || std::io::stdout().is_terminal() {
        println!("The cameras go on recording; the page stays at http://{page}/ until Ctrl-C.");
        tokio::signal::ctrl_c().await?;
    }
    for train in trains {
        train.arrive()?;
    }
    // The last pieces' timelines are written as the server ends.
    let _ = stop_server.send(());
    server.await??;
    Ok(whole)
}

fn new_folder(wanted: Option<&Path>) -> anyhow::Result<PathBuf> {
    match wanted {
        Some(folder) => {
            std::fs::create_dir(folder)
                .with_context(|| format!("cannot make the folder {}", folder.display()))?;
            Ok(folder.canonicalize()?)
        }
        None => Ok(tempfile::Builder::new().prefix("gapless-demo-").tempdir()?.keep()),
    }
}

/// Written down as a file too, so that the command line can be tried on what the demo leaves.
fn server_config(folder: &Path) -> anyhow::Result<Config> {
    let path = folder.join("gapless.toml");
    let text = format!(
        "[server]\nstate_dir = \"state\"\n\n\
         [broker.embedded]\nlisten = \"127.0.0.1:0\"\n\n\
         [http]\nlisten = \"127.0.0.1:0\"\nanonymous = \"pull\"\n\n\
         [archive]\nroot = \"archive\"\ntemplate = \"{}\"\ntime_zone = \"UTC\"\nsettle_s = {SETTLE_S}\n\n\
         [pull]\nmin_free_mib = 64\n",
        Naming::MediaMtx.template()
    );
    let mut file = std::fs::File::create_new(&path)?;
    std::io::Write::write_all(&mut file, text.as_bytes())?;
    Ok(Config::load(Some(&path))?)
}

/// A camera, its link, and the agent beside it.
struct Train {
    name: String,
    link: Link,
    recording: tokio::task::JoinHandle<std::io::Result<std::convert::Infallible>>,
    stop_agent: oneshot::Sender<()>,
    agent: std::thread::JoinHandle<anyhow::Result<()>>,
}

impl Train {
    async fn depart(
        folder: &Path,
        name: &str,
        broker: std::net::SocketAddr,
        pace: Pace,
        options: &Options,
    ) -> anyhow::Result<Train> {
        let link = Link::open(broker, Shape::CLEAR).await?;
        let card = folder.join("cards").join(name);
        let recorder =
            |root: &Path| Recording::new(root, Naming::MediaMtx, options.segment, Ring::Endless);
        let archive = folder.join("archive").join(name).join("main");
        let mut camera = Camera::streaming(recorder(&card.join("main")), recorder(&archive));
        std::fs::create_dir_all(card.join("main"))?;
        let up = link.up();
        let recording = tokio::spawn(async move { camera.run(pace, up).await });
        let config = agent_config(name, &card, &link)?;
        let (stop_agent, stopped) = oneshot::channel::<()>();
        let agent = std::thread::Builder::new().name(format!("agent {name}")).spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let shutdown = async move {
                // A dropped sender stops it too.
                let _ = stopped.await;
            };
            Ok(runtime.block_on(agent::run(config, shutdown))?)
        })?;
        Ok(Train { name: name.to_owned(), link, recording, stop_agent, agent })
    }

    /// Bytes on the link from the camera to the server, TCP payload.
    fn sent_bytes(&self) -> u64 {
        self.link.passed_bytes(Direction::ToServer)
    }

    fn arrive(self) -> anyhow::Result<()> {
        self.recording.abort();
        // An agent that has ended already says why below.
        let _ = self.stop_agent.send(());
        match self.agent.join() {
            Ok(ended) => ended?,
            Err(_) => anyhow::bail!("the agent of {} panicked", self.name),
        }
        Ok(())
    }
}

fn agent_config(name: &str, card: &Path, link: &Link) -> anyhow::Result<agent::Config> {
    let text = format!(
        "device = \"{name}\"\n\n[broker]\nurl = \"mqtt://{}\"\n\n\
         [card]\nroot = {:?}\nrequire_mount = false\n\n\
         [[stream]]\nid = \"main\"\npath = \"main\"\ntemplate = \"{}\"\ntime_zone = \"UTC\"\n",
        link.address(),
        card,
        Naming::MediaMtx.template()
    );
    let path = card.join("agent.toml");
    let mut file = std::fs::File::create_new(&path)?;
    std::io::Write::write_all(&mut file, text.as_bytes())?;
    Ok(agent::Config::load(&path)?)
}

/// What the server has said so far, and how it is shown.
struct Watched {
    events: broadcast::Receiver<Event>,
    began: Instant,
    cameras: usize,
    timelines: BTreeMap<String, Vec<Stretch>>,
    pieces: BTreeMap<String, Vec<Merged>>,
    bars: BTreeMap<String, ProgressBar>,
    screen: MultiProgress,
}

struct Merged {
    piece: Piece,
    part_bytes: u64,
    resent_bytes: u64,
}

impl Watched {
    fn new(events: broadcast::Receiver<Event>, cameras: u16) -> Self {
        Watched {
            events,
            began: Instant::now(),
            cameras: cameras.into(),
            timelines: BTreeMap::new(),
            pieces: BTreeMap::new(),
            bars: BTreeMap::new(),
            screen: MultiProgress::new(),
        }
    }

    /// A line that stays.
    fn say(&self, text: &str) {
        let line = format!("{:6.1} s  {text}", self.began.elapsed().as_secs_f64());
        if std::io::stderr().is_terminal() {
            // A terminal that went away is no reason to stop.
            let _ = self.screen.println(line);
        } else {
            println!("{line}");
        }
    }

    /// Shows what happens until `deadline`, or until `done`; tells which it was.
    async fn follow(
        &mut self,
        deadline: Instant,
        done: impl Fn(&Watched) -> bool,
    ) -> anyhow::Result<bool> {
        loop {
            if done(self) {
                return Ok(true);
            }
            match tokio::time::timeout_at(deadline, self.events.recv()).await {
                Ok(Ok(event)) => self.take(event),
                Ok(Err(broadcast::error::RecvError::Lagged(_))) => {}
                Ok(Err(broadcast::error::RecvError::Closed)) => {
                    anyhow::bail!("the server has ended")
                }
                Err(_) => return Ok(done(self)),
            }
        }
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Online(device) => self.say(&format!("{device} is online")),
            Event::Offline(device) => self.say(&format!("{device} is offline")),
            Event::Timeline { key, stretches, completeness, .. } => {
                let name = key.device.to_string();
                self.draw(&name, &stretches, completeness);
                self.tell_news(&name, &stretches);
                self.timelines.insert(name, stretches.to_vec());
            }
            Event::Progress { key, durable_bytes, length_bytes, .. } => {
                if let Some(bar) = self.bars.get(key.device.as_str()) {
                    bar.set_message(format!("pulling {durable_bytes} of {length_bytes} bytes"));
                }
            }
            Event::Merged { key, piece, part_bytes, resent_bytes, .. } => {
                self.say(&format!(
                    "{}: {:.1} s merged, digest equal: {}",
                    key.device,
                    piece.range.duration().as_secs_f64(),
                    piece.path.display()
                ));
                let merged = Merged { piece, part_bytes, resent_bytes };
                self.pieces.entry(key.device.to_string()).or_default().push(merged);
            }
            Event::AtRisk { device, forecast } => {
                let now = Timestamp::from_jiff(jiff::Timestamp::now());
                self.say(&format!("{device}: {}", forecast.seen_at(now)));
            }
            // Nobody asks for anything here, and no policy has a time.
            Event::Job(_) | Event::Run(_) | Event::Policy(_) => {}
        }
    }

    /// Says what has become of the hole since the last timeline.
    fn tell_news(&self, name: &str, stretches: &[Stretch]) {
        if !stretches.iter().any(|stretch| matches!(stretch.state, State::Archived { .. })) {
            // The recorders are only beginning.
            return;
        }
        let words = |stretches: &[Stretch]| -> Vec<&'static str> {
            let open = stretches.iter().filter(|stretch| !stretch.state.is_settled());
            open.map(|stretch| stretch.state.word()).collect()
        };
        let before = self.timelines.get(name).map(|known| words(known)).unwrap_or_default();
        for stretch in stretches.iter().filter(|stretch| !stretch.state.is_settled()) {
            let word = stretch.state.word();
            if !before.contains(&word) {
                self.say(&format!("{name}: {word} from {}", stretch.range.start()));
            }
        }
    }

    /// One character a second, the last minute: archived live `=`, from the card `#`, and the words' letters.
    fn draw(&mut self, name: &str, stretches: &[Stretch], completeness: Completeness) {
        let bar = self.bars.entry(name.to_owned()).or_insert_with(|| {
            let style = ProgressStyle::with_template("  {prefix} {msg}").expect("well-formed");
            self.screen
                .add(ProgressBar::new_spinner().with_style(style).with_prefix(name.to_owned()))
        });
        let percent = completeness.percent();
        bar.set_message(format!("[{}] {percent} % settled", picture(stretches)));
    }

    fn is_whole(&self) -> bool {
        let filled = |stretches: &Vec<Stretch>| {
            let from_card = |stretch: &Stretch| {
                matches!(stretch.state, State::Archived { by: Recorder::Edge, .. })
            };
            Completeness::of(stretches).is_complete() && stretches.iter().any(from_card)
        };
        self.timelines.len() == self.cameras && self.timelines.values().all(filled)
    }

    fn finish(&self) {
        for bar in self.bars.values() {
            bar.finish_and_clear();
        }
    }

    /// The closing statement of one camera.
    fn report(&self, name: &str, folder: &Path, sent_bytes: u64) {
        let stretches = self.timelines.get(name).map(Vec::as_slice).unwrap_or_default();
        println!("\n{name}");
        for Stretch { range, state } in stretches {
            println!("  {:>8.3} s  {}  {state}", range.duration().as_secs_f64(), range.start());
        }
        let edge: Coverage = stretches
            .iter()
            .filter(|stretch| matches!(stretch.state, State::Archived { by: Recorder::Edge, .. }))
            .map(|stretch| stretch.range)
            .collect();
        let merged = self.pieces.get(name).map(Vec::as_slice).unwrap_or_default();
        let pulled: u64 = merged.iter().map(|merged| merged.part_bytes).sum();
        let resent: u64 = merged.iter().map(|merged| merged.resent_bytes).sum();
        println!("  restored: {:.1} s of picture", edge.total().as_secs_f64());
        println!(
            "  missing were {} bytes; pulled {pulled}, of these twice {resent}",
            missing_bytes(&edge)
        );
        println!(
            "  on the link since the tunnel: {sent_bytes} bytes, presence and coverage included"
        );
        for merged in merged {
            println!("  {}", folder.join("archive").join(&merged.piece.path).display());
        }
    }
}

/// What the camera recorded in these seconds.
fn missing_bytes(missing: &Coverage) -> u64 {
    let seconds_of = |range: TimeRange| {
        let first = range.start().as_nanos().div_euclid(1_000_000_000);
        let last = range.end().as_nanos().div_euclid(1_000_000_000);
        (first..last).map(Timestamp::from_unix_seconds)
    };
    missing.iter().flat_map(seconds_of).map(|second| Clip::committed().fragment_bytes(second)).sum()
}

fn picture(stretches: &[Stretch]) -> String {
    const COLUMNS: usize = 56;
    let letters: Vec<char> = stretches
        .iter()
        .flat_map(|stretch| {
            let letter = match &stretch.state {
                State::Archived { by: Recorder::Live, .. } => '=',
                State::Archived { by: Recorder::Edge, .. } => '#',
                State::Missing => 'm',
                State::Pending => 'p',
                State::Transferring => 't',
                State::NeverRecorded { .. } => 'n',
                State::Overwritten { .. } => 'o',
                State::Failed { .. } => '!',
            };
            std::iter::repeat_n(letter, stretch.range.duration().as_secs_f64().round() as usize)
        })
        .collect();
    let shown = letters.len().saturating_sub(COLUMNS);
    letters.get(shown..).unwrap_or_default().iter().collect()
}
