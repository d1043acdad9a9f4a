//! The ports of `serve`: taken early, so that a clash is told before anything starts, and by whom they are taken.

use std::{
    convert::Infallible,
    fs, io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
};

use axum::{ServiceExt, extract::Request, response::Response};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::net::{TcpListener, TcpSocket};
use tower::Service;

use super::misuse::Misuse;
use crate::shutdown::Shutdown;

/// Connections that may wait to be taken, if the system allows as many: after a restart all clients come at once, and one
/// that finds no room tries again a second later.
const BACKLOG: u32 = 4_096;

/// Binds every address.
///
/// # Errors
/// When one cannot be used; says who has it.
pub fn bind(addresses: &[SocketAddr], option: &str) -> anyhow::Result<Vec<TcpListener>> {
    allow_descriptors();
    let mut listeners = Vec::new();
    for address in addresses {
        match listen(*address) {
            Ok(listener) => listeners.push(listener),
            Err(error) => return Err(explain(*address, option, error)),
        }
    }
    Ok(listeners)
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Every socket takes a descriptor, and a shell or a service manager allows 1,024 unless asked for what there may be.
fn allow_descriptors() {
    let allowed =
        getrlimit(Resource::RLIMIT_NOFILE).and_then(|(_, most)| setrlimit(Resource::RLIMIT_NOFILE, most, most));
    if let Err(error) = allowed {
        tracing::warn!(%error, "there may be no more sockets than this process was started with");
    }
}

/// Answers one listener's requests until asked to stop, then lets those under way finish.
pub async fn answer<S>(listener: TcpListener, service: S, shutdown: Shutdown)
where
    S: Service<Request, Response = Response, Error = Infallible, Future: Send> + Clone + Send + 'static,
{
    let stop = shutdown.clone();
    let service = service.into_make_service_with_connect_info::<SocketAddr>();
    let serving = axum::serve(listener, service).with_graceful_shutdown(async move { stop.started().await });
    if let Err(error) = serving.await {
        tracing::error!(error = %error, "a listener failed");
        shutdown.start();
    }
}

/// What to tell when somebody has a port of this machine's.
pub fn taken(port: u16, option: &str) -> anyhow::Error {
    let holder = holder(port).map(|holder| format!(" by {holder}")).unwrap_or_default();
    anyhow::anyhow!("port {port} is taken{holder}; stop that, or choose another with {option}")
}

/// Keys that everybody knows are for a machine that nobody else can reach.
///
/// # Errors
/// [`Misuse`] when an address can be reached from elsewhere.
pub fn must_be_loopback(addresses: &[SocketAddr]) -> anyhow::Result<()> {
    match addresses
        .iter()
        .find(|address| !address.ip().to_canonical().is_loopback())
    {
        None => Ok(()),
        Some(open) => Err(Misuse(format!(
            "--listen {open} can be reached from other machines, and the development keys are known to everybody; \
             make keys of your own: (umask 077; switchboard keys generate > .env), then set -a; . ./.env, and start \
             again"
        ))
        .into()),
    }
}

/// The URL at which this machine reaches an address.
pub fn local_url(address: SocketAddr) -> String {
    let ip = match address.ip() {
        ip if !ip.is_unspecified() => ip,
        _ => IpAddr::V4(Ipv4Addr::LOCALHOST),
    };
    format!("http://{}", SocketAddr::new(ip, address.port()))
}

fn explain(address: SocketAddr, option: &str, error: io::Error) -> anyhow::Error {
    let advice = match error.kind() {
        io::ErrorKind::AddrInUse => return taken(address.port(), option),
        io::ErrorKind::PermissionDenied => "a port below 1024 needs rights of its own; choose another with",
        io::ErrorKind::AddrNotAvailable => "this machine does not have that address; choose another with",
        _ => "choose another with",
    };
    anyhow::Error::new(error).context(format!("cannot listen on {address}; {advice} {option}"))
}

/// The process that listens on a port, as far as we may see: `postgres (process 1234)`.
fn holder(port: u16) -> Option<String> {
    let inodes: Vec<String> = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .filter_map(|table| fs::read_to_string(table).ok())
        .flat_map(|table| listening(&table, port))
        .collect();
    let sockets: Vec<String> = inodes.iter().map(|inode| format!("socket:[{inode}]")).collect();
    for process in fs::read_dir("/proc").ok()?.flatten() {
        let name = process.file_name();
        let Some(id) = name
            .to_str()
            .filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()))
        else {
            continue;
        };
        let files = fs::read_dir(process.path().join("fd")).into_iter().flatten().flatten();
        let mut targets = files.filter_map(|file| fs::read_link(file.path()).ok());
        if targets.any(|target| sockets.iter().any(|socket| target == Path::new(socket))) {
            let program = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            return Some(format!("{} (process {id})", program.trim()));
        }
    }
    None
}

/// The inodes of the sockets that listen on a port, from a table of the kernel's.
fn listening(table: &str, port: u16) -> Vec<String> {
    let suffix = format!(":{port:04X}");
    table
        .lines()
        .filter_map(|line| {
            let mut fields = line.split_whitespace().skip(1);
            let (local, _remote, state) = (fields.next()?, fields.next()?, fields.next()?);
            (local.ends_with(&suffix) && state == "0A").then_some(())?;
            fields.nth(5).map(str::to_owned)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_taken_port_is_told_with_its_holder() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let error = bind(&[address], "--listen").unwrap_err().to_string();
        assert!(error.contains(&format!("port {} is taken", address.port())), "{error}");
        #[cfg(target_os = "linux")]
        assert!(error.contains(&format!("(process {})", std::process::id())), "{error}");
    }

    #[test]
    fn development_keys_stay_on_the_loopback() {
        for here in ["127.0.0.1:1", "127.3.2.1:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
            assert!(must_be_loopback(&[here.parse().unwrap()]).is_ok(), "{here}");
        }
        for elsewhere in ["0.0.0.0:1", "[::]:1", "192.168.1.5:1", "[::ffff:10.0.0.1]:1"] {
            let error = must_be_loopback(&["127.0.0.1:1".parse().unwrap(), elsewhere.parse().unwrap()]).unwrap_err();
            assert!(error.is::<Misuse>(), "{elsewhere}");
        }
    }

    #[test]
    fn a_wildcard_address_is_reached_over_the_loopback() {
        assert_eq!(local_url("0.0.0.0:80".parse().unwrap()), "http://127.0.0.1:80");
        assert_eq!(local_url("[::1]:80".parse().unwrap()), "http://[::1]:80");
    }
}
