//! What the commands say and how they exit.

use std::process::Output;

use switchboard::gateway::keys::Keys;

use crate::support::serve::switchboard;

fn run(arguments: &[&str]) -> Output {
    switchboard().args(arguments).output().unwrap()
}

fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

#[test]
fn misuse_is_two() {
    for arguments in [
        &["serve", "--listen", "nowhere"][..],
        &[
            "serve",
            "--database-url",
            "nonsense",
            "--data-dir",
            env!("CARGO_TARGET_TMPDIR"),
            "--listen",
            "127.0.0.1:0",
        ],
        &["serve", "--services", "telephone"],
        &["serve", "--postgres-set", "work_mem"],
        &["keys", "generate", "--jwt-secret", "short"],
        &["nonsense"],
        &[],
    ] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", stderr(&output));
        assert_eq!(stdout(&output), "", "{arguments:?}");
        assert_ne!(stderr(&output), "", "{arguments:?}");
    }
}

#[test]
fn failure_is_one() {
    let nowhere = "postgresql://u:hush@127.0.0.1:1/d";
    for arguments in [
        &["status", "--data-dir", "/nonexistent"][..],
        &["migrate", "status", "--data-dir", "/nonexistent"],
        &["migrate", "up", "--database-url", nowhere],
        &["migrate", "up", "--database-url", nowhere, "--dir", "/nonexistent"],
    ] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {}", stderr(&output));
        assert!(stderr(&output).starts_with("error: "), "{}", stderr(&output));
        assert!(
            !stderr(&output).contains("hush"),
            "a password is told to nobody: {}",
            stderr(&output)
        );
    }
}

#[test]
fn generated_keys_fit_together_and_differ_each_time() {
    let set = || {
        let output = run(&["keys", "generate"]);
        assert!(output.status.success(), "{}", stderr(&output));
        stdout(&output)
            .lines()
            .map(|line| line.split_once("=\"").unwrap().1.trim_end_matches('"').to_owned())
            .collect::<Vec<_>>()
    };
    let keys: [String; 5] = set().try_into().unwrap();
    assert!(keys.iter().zip(set()).all(|(one, other)| *one != other));
    let [publishable, secret, jwt_secret, anon, service_role] = keys;
    assert!(publishable.starts_with("sb_publishable_") && secret.starts_with("sb_secret_"));
    let keys = Keys::new(
        jwt_secret.into(),
        anon.into(),
        service_role.into(),
        publishable.into(),
        secret.into(),
    );
    assert_eq!(keys.verify(keys.anon.expose()).unwrap().role(), Some("anon"));
    assert_eq!(
        keys.verify(keys.service_role.expose()).unwrap().role(),
        Some("service_role")
    );
}

#[test]
fn some_keys_are_not_enough() {
    let output = switchboard()
        .arg("serve")
        .env("JWT_SECRET", "a secret of more than thirty-two bytes")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(
        stderr(&output).contains("ANON_KEY, SERVICE_ROLE_KEY, PUBLISHABLE_KEY, SECRET_KEY"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn completions_know_the_commands() {
    for shell in ["bash", "zsh", "fish"] {
        let output = run(&["completions", shell]);
        assert!(output.status.success());
        assert!(stdout(&output).contains("migrate"), "{shell}");
    }
}
