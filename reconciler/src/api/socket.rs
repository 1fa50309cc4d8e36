//! The Unix socket on which the API listens, from its making to its removal.

use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};

use axum::Router;
use axum::extract::connect_info::Connected;
use axum::extract::{ConnectInfo, Request, State};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::serve::IncomingStream;
use nix::sys::stat::{Mode, fchmod};
use nix::unistd::{Uid, User};
use tokio::net::{UnixListener, UnixSocket};

use crate::access::{Access, Caller};

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 128;

#[derive(Debug, thiserror::Error)]
#[error("the API cannot listen on {path}: give [server] state_dir a short path on a local disk")]
pub struct ApiError {
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// Where a server with this state directory listens.
pub fn socket_path(state_dir: &Path) -> PathBuf {
    state_dir.join("api.sock")
}

/// A socket that is listened on; its file goes with it.
#[derive(Debug)]
pub struct Api {
    listener: UnixListener,
    file: SocketFile,
}

#[derive(Debug)]
struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.0) {
            tracing::warn!(path = %self.0.display(), %error, "the API's socket stays behind");
        }
    }
}

impl Api {
    /// Whoever calls this holds the lock of the state directory: a socket that is there already is left over.
    pub fn listen(state_dir: &Path) -> Result<Api, ApiError> {
        let path = socket_path(state_dir);
        let failed = |source| ApiError { path: path.clone(), source };
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        let listener = listen(&path).map_err(failed)?;
        Ok(Api { listener, file: SocketFile(path) })
    }

    /// Answers until `stop`, and then what has been asked already.
    pub async fn serve(
        self,
        router: Router,
        access: Access,
        stop: impl Future<Output = ()> + Send + 'static,
    ) {
        let Api { listener, file } = self;
        tracing::info!(socket = %file.0.display(), "orders are taken");
        let router = router.layer(middleware::from_fn_with_state(access, by_its_owner));
        let serving = axum::serve(listener, router.into_make_service_with_connect_info::<Asker>());
        if let Err(error) = serving.with_graceful_shutdown(stop).await {
            tracing::error!(%error, "the API has ended");
        }
        drop(file);
    }
}

/// The user of the operating system at the other end, for the audit log.
#[derive(Clone, Debug)]
struct Asker(String);

impl Connected<IncomingStream<'_, UnixListener>> for Asker {
    fn connect_info(stream: IncomingStream<'_, UnixListener>) -> Asker {
        let uid = stream.io().peer_cred().map(|credentials| credentials.uid()).ok();
        let user = uid.and_then(|uid| User::from_uid(Uid::from_raw(uid)).ok().flatten());
        let unnamed = || uid.map_or_else(|| "unknown".to_owned(), |uid| format!("uid {uid}"));
        Asker(user.map_or_else(unnamed, |user| user.name))
    }
}

/// Whoever could connect is the server's own user, or root: the file's rights are the log-in.
async fn by_its_owner(
    State(access): State<Access>,
    ConnectInfo(Asker(name)): ConnectInfo<Asker>,
    mut request: Request,
    next: Next,
) -> Response {
    request.extensions_mut().insert(Caller::on_the_socket(&access, name));
    next.run(request).await
}

/// The file takes its rights from the socket when it is bound: at no moment can anyone else connect.
fn listen(path: &Path) -> io::Result<UnixListener> {
    let socket = UnixSocket::new_stream()?;
    fchmod(&socket, Mode::S_IRUSR | Mode::S_IWUSR)?;
    socket.bind(path)?;
    socket.listen(BACKLOG)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[tokio::test]
    async fn only_the_owner_may_connect_and_a_socket_that_was_left_is_replaced() {
        let state_dir = tempfile::tempdir().unwrap();
        let left = std::os::unix::net::UnixListener::bind(socket_path(state_dir.path())).unwrap();
        drop(left);
        let api = Api::listen(state_dir.path()).unwrap();
        let path = socket_path(state_dir.path());
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{mode:o}");
        tokio::net::UnixStream::connect(&path).await.unwrap();
        drop(api);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_path_that_no_socket_can_have_is_named() {
        let state_dir = tempfile::tempdir().unwrap();
        let deep = state_dir.path().join("d".repeat(120));
        std::fs::create_dir(&deep).unwrap();
        let error = Api::listen(&deep).unwrap_err().to_string();
        assert!(error.contains("ddd") && error.contains("state_dir"), "{error}");
    }
}
