//! Binds the server's port on every configured address.

use std::io;
use std::net::SocketAddr;

use rustix::io::Errno;
use tokio::net::{TcpListener, TcpSocket};

use super::{ServeError, ServeSettings};

/// Largest number of attempts to find a port that is free on every address, if port 0 is
/// configured.
const FREE_PORT_TRIES: usize = 16;

/// Binds a listener for each address of `settings.listen`, all on the same port. An address that
/// the machine does not have (IPv6 may be off) is skipped, unless it is the first one.
///
/// # Errors
/// The port is taken, or an address cannot be bound.
pub(super) fn bind(settings: &ServeSettings) -> Result<Vec<TcpListener>, ServeError> {
    let any_port = settings.listen[0].port() == 0;
    let mut tries = 0;
    loop {
        tries += 1;
        match bind_once(settings) {
            Err(ServeError::PortTaken(_)) if any_port && tries < FREE_PORT_TRIES => {}
            other => return other,
        }
    }
}

/// One attempt of [`bind`]. With port 0, the first address determines the port.
fn bind_once(settings: &ServeSettings) -> Result<Vec<TcpListener>, ServeError> {
    let mut listeners: Vec<TcpListener> = Vec::new();
    let mut port = settings.listen[0].port();
    for listen in &settings.listen {
        let listen = SocketAddr::new(listen.ip(), port);
        match bind_one(listen, settings.send_buffer_bytes) {
            Ok(listener) => {
                port = listener
                    .local_addr()
                    .map_err(|error| ServeError::Listen(listen, error))?
                    .port();
                listeners.push(listener);
            }
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                return Err(ServeError::PortTaken(listen));
            }
            Err(error) if !listeners.is_empty() && is_absent(&error) => {
                tracing::debug!("{listen} is skipped: {error}");
            }
            Err(error) => return Err(ServeError::Listen(listen, error)),
        }
    }
    Ok(listeners)
}

/// Whether binding failed because the machine does not have the address or its address family.
fn is_absent(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrNotAvailable
        || error.raw_os_error() == Some(Errno::AFNOSUPPORT.raw_os_error())
}

fn bind_one(listen: SocketAddr, send_buffer_bytes: u32) -> io::Result<TcpListener> {
    let socket = if listen.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    // A restarted daemon gets its port back at once. A port of another listening program is still
    // refused.
    socket.set_reuseaddr(true)?;
    // Accepted sockets inherit this size.
    socket.set_send_buffer_size(send_buffer_bytes)?;
    socket.bind(listen)?;
    socket.listen(1024)
}
