//! From a login to a session: socket, TLS, start-up, authentication.

use std::{io, path::PathBuf};

use bytes::BytesMut;
use postgres_protocol::{
    authentication::{
        md5_hash,
        sasl::{ChannelBinding, SCRAM_SHA_256, ScramSha256},
    },
    message::{backend::Message, frontend},
};
use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpStream, UnixStream},
};
use tokio_rustls::TlsConnector;

use super::{Failure, Session, tls::Tls};
use crate::{
    config::Secret,
    db::{Database, Login},
};

/// What a session is read from and written to.
pub(super) trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Socket for T {}

/// Where to connect, and as whom.
#[derive(Clone, Debug)]
pub(super) struct Target {
    address: Address,
    user: String,
    password: Option<Secret>,
    database: String,
    prepares: bool,
}

#[derive(Clone, Debug)]
enum Address {
    Unix(PathBuf),
    Tcp { host: String, port: u16, tls: Option<Tls> },
}

impl Target {
    /// What a login needs.
    pub fn new(database: &Database, login: Login) -> io::Result<Self> {
        let options = database.options(login);
        let port = options.get_port();
        let address = match options.get_socket() {
            Some(directory) => Address::Unix(directory.join(format!(".s.PGSQL.{port}"))),
            None => Address::Tcp {
                host: options.get_host().to_owned(),
                port,
                tls: Tls::new(options.get_ssl_mode(), database.root_certificate())?,
            },
        };
        let user = options.get_username().to_owned();
        Ok(Self {
            address,
            // Postgres' own default.
            database: options.get_database().unwrap_or(&user).to_owned(),
            user,
            password: database.password().cloned(),
            prepares: database.prepares(),
        })
    }

    /// Opens a session.
    pub async fn open(&self) -> Result<Session, Failure> {
        let (socket, private) = self.socket().await?;
        let mut session = Session::new(socket, self.prepares);
        self.authenticate(&mut session, private).await?;
        Ok(session)
    }

    /// Asks the server to cancel what a session's process is doing. When this returns, the process has been told.
    pub async fn cancel(&self, (process, secret): (i32, i32)) -> io::Result<()> {
        let (mut socket, _) = self.socket().await?;
        let mut request = BytesMut::new();
        frontend::cancel_request(process, secret, &mut request);
        socket.write_all(&request).await?;
        socket.flush().await?;
        // It says nothing; it closes the connection when it has sent the signal.
        let _ = socket.read_u8().await;
        Ok(())
    }

    /// The socket, and whether nobody else can read it.
    async fn socket(&self) -> io::Result<(Box<dyn Socket>, bool)> {
        match &self.address {
            Address::Unix(path) => Ok((Box::new(UnixStream::connect(path).await?), true)),
            Address::Tcp { host, port, tls } => {
                let mut socket = TcpStream::connect((host.as_str(), *port)).await?;
                socket.set_nodelay(true)?;
                let Some(tls) = tls else {
                    return Ok((Box::new(socket), false));
                };
                let mut request = BytesMut::new();
                frontend::ssl_request(&mut request);
                socket.write_all(&request).await?;
                match socket.read_u8().await? {
                    b'S' => {
                        let name = ServerName::try_from(host.clone()).map_err(io::Error::other)?;
                        let connector = TlsConnector::from(std::sync::Arc::clone(&tls.config));
                        Ok((Box::new(connector.connect(name, socket).await?), true))
                    }
                    _ if tls.required => Err(io::Error::other("the server speaks no TLS, which sslmode requires")),
                    _ => Ok((Box::new(socket), false)),
                }
            }
        }
    }

    async fn authenticate(&self, session: &mut Session, private: bool) -> Result<(), Failure> {
        let parameters = [
            ("user", self.user.as_str()),
            ("database", &self.database),
            ("application_name", "switchboard"),
            ("client_encoding", "UTF8"),
            // Values are rendered as every Supabase project renders them, whatever the server's defaults.
            ("DateStyle", "ISO, MDY"),
            ("IntervalStyle", "postgres"),
            ("extra_float_digits", "1"),
        ];
        frontend::startup_message(parameters, &mut session.output)?;
        let password = || {
            let secret = self.password.as_ref().map(Secret::expose);
            secret.ok_or_else(|| io::Error::other("the server asks for a password and the database URL has none"))
        };
        let mut scram = None;
        loop {
            session.send().await?;
            match session.receive().await? {
                Message::AuthenticationSasl(_) => {
                    let exchange = ScramSha256::new(password()?.as_bytes(), ChannelBinding::unsupported());
                    frontend::sasl_initial_response(SCRAM_SHA_256, exchange.message(), &mut session.output)?;
                    scram = Some(exchange);
                }
                Message::AuthenticationSaslContinue(body) => {
                    let exchange = scram.as_mut().ok_or_else(out_of_order)?;
                    exchange.update(body.data())?;
                    frontend::sasl_response(exchange.message(), &mut session.output)?;
                }
                Message::AuthenticationSaslFinal(body) => {
                    scram.as_mut().ok_or_else(out_of_order)?.finish(body.data())?;
                }
                Message::AuthenticationMd5Password(body) => {
                    let hash = md5_hash(self.user.as_bytes(), password()?.as_bytes(), body.salt());
                    frontend::password_message(hash.as_bytes(), &mut session.output)?;
                }
                Message::AuthenticationCleartextPassword if private => {
                    frontend::password_message(password()?.as_bytes(), &mut session.output)?;
                }
                Message::BackendKeyData(body) => session.process = (body.process_id(), body.secret_key()),
                Message::AuthenticationOk | Message::ParameterStatus(_) | Message::NoticeResponse(_) => {}
                Message::ReadyForQuery(_) => {
                    session.idle();
                    return Ok(());
                }
                Message::ErrorResponse(body) => return Err(Failure::refused(&body)),
                Message::AuthenticationCleartextPassword => {
                    return Err(
                        io::Error::other("the server wants the password in clear text; use sslmode=require").into(),
                    );
                }
                _ => {
                    return Err(
                        io::Error::other("the server wants an authentication other than SCRAM-SHA-256 or MD5").into(),
                    );
                }
            }
        }
    }
}

fn out_of_order() -> io::Error {
    io::Error::other("the server's authentication messages are out of order")
}
