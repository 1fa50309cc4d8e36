//! An archive, its reader and the player, behind a real loopback socket; what is sent is counted.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::{Next, from_fn};
use http_body_util::BodyExt;
use reconciler::api;
use reconciler::archive::{Archive, ArchiveChange};
use reconciler::config::Config;
use reconciler::fleet::StreamKey;
use reconciler::ledger::{
    Entry, Ledger, PartId, PartRecord, PartState, Piece, SqliteLedger, ledger_path,
};
use reconciler::playback::{ArchivedSegment, Player};
use reconciler::timeline::Recorder;
use sdcard_indexer::identity::{SegmentId, SegmentVersion};
use sdcard_indexer::layout::Layout;
use sdcard_indexer::time::{TimeRange, Timestamp};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::timeout;

/// What a loaded machine needs to see that a file has come.
const PATIENCE: Duration = Duration::from_secs(60);

pub struct Screen {
    home: TempDir,
    key: StreamKey,
    ledger: Arc<SqliteLedger>,
    changes: mpsc::Receiver<ArchiveChange>,
    address: std::net::SocketAddr,
    sent: Arc<AtomicU64>,
    parts: i64,
}

impl Screen {
    /// With these files in the archive, under the names that their recorders give them.
    pub async fn show(segments: &[ArchivedSegment]) -> Screen {
        let home = tempfile::tempdir().unwrap();
        let mut config = Config::default();
        config.server.state_dir = home.path().join("state");
        config.archive.root = home.path().join("archive");
        std::fs::create_dir_all(&config.server.state_dir).unwrap();
        let key = StreamKey { device: "camera".parse().unwrap(), stream: "main".parse().unwrap() };
        let ledger = SqliteLedger::open(&ledger_path(&config.server.state_dir)).await.unwrap();
        let ledger = Arc::new(ledger);
        let known = Entry::Stream { key: key.clone(), expected_from: Timestamp::UNIX_EPOCH };
        ledger.record(&[known]).await.unwrap();
        let (archive, changes) = Archive::start(&config, Layout::onvif()).unwrap();
        let player = Player::new(archive.clone(), config.archive.root.clone(), ledger.clone());
        let (address, sent) = serve(player).await;
        let mut screen = Screen { home, key, ledger, changes, address, sent, parts: 0 };
        for segment in segments {
            screen.record(segment).await;
        }
        archive.watch(&screen.key, Path::new("camera/main"));
        for segment in segments {
            screen.held(segment.range).await;
        }
        screen
    }

    fn archive_root(&self) -> PathBuf {
        self.home.path().join("archive")
    }

    /// Puts a file into the archive.
    async fn record(&mut self, segment: &ArchivedSegment) {
        let name = Layout::onvif().path_for(segment.range.start(), 0);
        let path = Path::new("camera/main").join(name);
        let file = self.archive_root().join(&path);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        if segment.by == Recorder::Edge {
            self.parts += 1;
            self.ledger.record(&[piece(self.parts, &self.key, path, segment)]).await.unwrap();
        }
        assert!(!file.exists(), "two segments begin at {}", segment.range.start());
        std::fs::hard_link(&segment.file, &file)
            .or_else(|_| std::fs::copy(&segment.file, &file).map(drop))
            .unwrap();
    }

    /// Puts a file into the archive, and waits until its reader has seen it.
    pub async fn add(&mut self, segment: &ArchivedSegment) {
        self.record(segment).await;
        self.held(segment.range).await;
    }

    async fn held(&mut self, range: TimeRange) {
        // Files end a little before or behind what they are named for.
        let middle = range.start().saturating_add(range.duration() / 2);
        loop {
            if self.is_held(middle).await {
                return;
            }
            let change = timeout(PATIENCE, self.changes.recv()).await;
            change.expect("the archive's reader sees the file").expect("it goes on");
        }
    }

    async fn is_held(&self, at: Timestamp) -> bool {
        let (status, _, _) = self.get(&format!("still.mp4?at={at}"), &[]).await;
        status == StatusCode::OK
    }

    /// The address of one of the stream's paths.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{}", self.address, self.path(path))
    }

    fn path(&self, path: &str) -> String {
        format!("/api/v1/devices/{}/streams/{}/{path}", self.key.device, self.key.stream)
    }

    /// Of bodies, since the last time that this was asked.
    pub fn bytes_sent(&self) -> u64 {
        self.sent.swap(0, Ordering::SeqCst)
    }

    pub async fn get(
        &self,
        path: &str,
        headers: &[(&str, &str)],
    ) -> (StatusCode, HeaderMap, Bytes) {
        self.ask("GET", path, headers).await
    }

    pub async fn ask(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
    ) -> (StatusCode, HeaderMap, Bytes) {
        let response = self.open(method, path, headers).await;
        let (head, body) = response.into_parts();
        let body = axum::body::to_bytes(Body::new(body), usize::MAX).await.unwrap();
        (head.status, head.headers, body)
    }

    /// A connection of its own, whose body is still to be read.
    pub async fn open(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
    ) -> hyper::Response<hyper::body::Incoming> {
        let socket = tokio::net::TcpStream::connect(self.address).await.unwrap();
        let socket = hyper_util::rt::TokioIo::new(socket);
        let (mut sender, connection) = hyper::client::conn::http1::handshake(socket).await.unwrap();
        tokio::spawn(connection);
        let mut request =
            Request::builder().method(method).uri(self.path(path)).header("host", "screen");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        sender.send_request(request.body(Body::empty()).unwrap()).await.unwrap()
    }
}

/// Two instants, as a query.
pub fn query(range: TimeRange) -> String {
    format!("from={}&to={}", range.start(), range.end())
}

fn piece(number: i64, key: &StreamKey, path: PathBuf, segment: &ArchivedSegment) -> Entry {
    let part = protocol::message::Part {
        segment: SegmentId(number.unsigned_abs()),
        version: SegmentVersion { size_bytes: 1, fingerprint: 1 },
        start: 0,
        end: 1,
        range: segment.range,
        uncertainty_ns: 0,
        media: Vec::new(),
    };
    let piece =
        Piece { path, digest: [0; 32], size_bytes: 1, range: segment.range, seams: Vec::new() };
    let located = PartRecord::located(PartId(number), key.clone(), part, segment.range.end());
    Entry::Part(PartRecord { state: PartState::Archived, piece: Some(piece), ..located })
}

async fn serve(player: Player) -> (std::net::SocketAddr, Arc<AtomicU64>) {
    let sent = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&sent);
    let count = move |request: Request, next: Next| {
        let counted = Arc::clone(&counted);
        async move {
            next.run(request).await.map(|body| {
                Body::new(body.map_frame(move |frame| {
                    let bytes = frame.data_ref().map_or(0, Bytes::len);
                    counted.fetch_add(bytes as u64, Ordering::SeqCst);
                    frame
                }))
            })
        }
    };
    let router = api::playback::router(player).layer(from_fn(count));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    (address, sent)
}
