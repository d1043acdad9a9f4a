//! Logging in over TCP: passwords by SCRAM, TLS as `sslmode` asks, and no password in clear text on a readable line.

use std::{fs, path::Path, process::Command};

use switchboard::{
    db::{
        Database, Login,
        session::{Failure, Pool, Step},
    },
    postgres::{Durability, Server, Settings},
};
use tokio_util::sync::CancellationToken;

use crate::support::{cluster::temporary_folder, serve::free_port};

const PASSWORD: &str = "it's a: /secret@";

/// What a session sees of itself over this URL, whose password and parameters are given.
async fn ask(port: u16, host: &str, password: &str, parameters: &str) -> Result<String, Failure> {
    let mut url = url::Url::parse("postgres://postgres@host/postgres").unwrap();
    url.set_host(Some(host)).unwrap();
    url.set_port(Some(port)).unwrap();
    url.set_password(Some(password)).unwrap();
    url.set_query(Some(parameters));
    let pool = Pool::new(&Database::from_url(url.as_str()).unwrap(), Login::Owner, 1)?;
    let sql = "select coalesce((select version from pg_stat_ssl where pid = pg_backend_pid() and ssl), 'plain')";
    let rows = pool.transaction(&[Step::new(sql, &[])]).await?;
    Ok(rows[0][0].text(0).unwrap().to_owned())
}

/// Why it was refused.
async fn refused(port: u16, host: &str, password: &str, parameters: &str) -> String {
    ask(port, host, password, parameters).await.unwrap_err().to_string()
}

/// A Postgres of its own on this TCP port, with more parameters.
async fn server(folder: &Path, port: u16, parameters: &[(&str, &str)]) -> Server {
    let settings = Settings {
        folder: folder.to_owned(),
        bin: None,
        account: None,
        superuser: "postgres".into(),
        port,
        durability: Durability::None,
        parameters: parameters
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
    };
    let server = Server::start(&settings, &CancellationToken::new()).await.unwrap();
    let socket = Database::embedded(server.socket_directory(), server.port());
    let pool = Pool::new(&socket, Login::Owner, 1).unwrap();
    let quoted = PASSWORD.replace('\'', "''");
    let sql = format!("alter role postgres password '{quoted}'");
    pool.transaction(&[Step::new(&sql, &[])]).await.unwrap();
    server
}

/// A certificate for `localhost` that signs itself, and its key, in files of the account that reads them.
fn certificate(folder: &Path) {
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
        ])
        .args([
            "-days",
            "2",
            "-subj",
            "/CN=localhost",
            "-addext",
            "subjectAltName=DNS:localhost",
        ])
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .arg("-keyout")
        .arg(folder.join("server.key"))
        .arg("-out")
        .arg(folder.join("server.crt"))
        .output()
        .expect("openssl is installed");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

#[tokio::test]
async fn a_password_is_proved_and_not_shown() {
    let (folder, port) = (temporary_folder(), free_port());
    let server = server(&folder, port, &[]).await;
    assert_eq!(ask(port, "127.0.0.1", PASSWORD, "").await.unwrap(), "plain");
    let wrong = ask(port, "127.0.0.1", "wrong", "").await.unwrap_err();
    assert_eq!(wrong.refusal().unwrap().code, "28P01", "{wrong}");
    let none = refused(port, "127.0.0.1", "", "").await;
    assert!(none.contains("the database URL has none"), "{none}");
    let required = refused(port, "127.0.0.1", PASSWORD, "sslmode=require").await;
    assert!(required.contains("speaks no TLS"), "{required}");

    // A server that wants it readable gets it on a private line alone.
    let rules = folder.join("pg/pg_hba.conf");
    fs::write(&rules, "local all all trust\nhost all all 127.0.0.1/32 password\n").unwrap();
    reload(&server).await;
    let readable = refused(port, "127.0.0.1", PASSWORD, "").await;
    assert!(readable.contains("clear text"), "{readable}");
    server.stop().await.unwrap();
    fs::remove_dir_all(folder).unwrap();
}

#[tokio::test]
async fn tls_trusts_as_much_as_sslmode_says() {
    let (folder, port) = (temporary_folder(), free_port());
    // The first start makes the data, the folder of which the certificate's owner is told by.
    server(&folder, port, &[]).await.stop().await.unwrap();
    let data = folder.join("pg");
    certificate(&data);
    let owner = std::os::unix::fs::MetadataExt::uid(&fs::metadata(&data).unwrap());
    for file in ["server.key", "server.crt"] {
        std::os::unix::fs::chown(data.join(file), Some(owner), None).unwrap();
    }
    fs::write(
        data.join("pg_hba.conf"),
        "local all all trust\nhostssl all all 127.0.0.1/32 password\nhostnossl all all 127.0.0.1/32 scram-sha-256\n",
    )
    .unwrap();
    let server = server(&folder, port, &[("ssl", "on")]).await;
    let root = folder.join("root.crt");
    fs::copy(data.join("server.crt"), &root).unwrap();
    let trusting = |mode: &str| format!("sslmode={mode}&sslrootcert={}", root.display());

    assert_eq!(
        ask(port, "localhost", PASSWORD, "sslmode=disable").await.unwrap(),
        "plain"
    );
    // Over TLS nobody else reads the password.
    for mode in ["prefer", "require"] {
        assert_eq!(
            ask(port, "127.0.0.1", PASSWORD, &format!("sslmode={mode}"))
                .await
                .unwrap(),
            "TLSv1.3"
        );
    }
    for mode in ["require", "verify-ca", "verify-full"] {
        assert_eq!(
            ask(port, "localhost", PASSWORD, &trusting(mode)).await.unwrap(),
            "TLSv1.3",
            "{mode}"
        );
    }
    assert_eq!(
        ask(port, "127.0.0.1", PASSWORD, &trusting("verify-ca")).await.unwrap(),
        "TLSv1.3"
    );
    let name = refused(port, "127.0.0.1", PASSWORD, &trusting("verify-full")).await;
    assert!(name.contains("certificate"), "{name}");
    for mode in ["verify-ca", "verify-full"] {
        let unknown = refused(port, "localhost", PASSWORD, &format!("sslmode={mode}")).await;
        assert!(unknown.contains("certificate"), "{unknown}");
    }
    let other = tempfile::tempdir().unwrap();
    certificate(other.path());
    let stranger = format!("sslmode=require&sslrootcert={}/server.crt", other.path().display());
    let unknown = refused(port, "localhost", PASSWORD, &stranger).await;
    assert!(unknown.contains("certificate"), "{unknown}");
    server.stop().await.unwrap();
    fs::remove_dir_all(folder).unwrap();
}

async fn reload(server: &Server) {
    let socket = Database::embedded(server.socket_directory(), server.port());
    let pool = Pool::new(&socket, Login::Owner, 1).unwrap();
    pool.transaction(&[Step::new("select pg_reload_conf()", &[])])
        .await
        .unwrap();
    let loaded = "select count(*) from pg_hba_file_rules where auth_method = 'password'";
    let rows = pool.transaction(&[Step::new(loaded, &[])]).await.unwrap();
    assert_eq!(rows[0][0].text(0), Some("1"));
}
