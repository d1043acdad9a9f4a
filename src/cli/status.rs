//! `switchboard status`: the URLs and keys of the `serve` that runs on a data folder.

use std::path::PathBuf;

use anyhow::{Context as _, bail};

use super::running::{Output, Running};
use crate::data_dir::DataDir;

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  switchboard status -o env > portal/.env.local")]
pub struct Args {
    /// The folder of the `serve` to ask about [default: the same as serve's]
    #[arg(long, env = "SWITCHBOARD_DATA_DIR", value_name = "FOLDER")]
    data_dir: Option<PathBuf>,
    /// How to print
    #[arg(short, long, env = "SWITCHBOARD_OUTPUT", value_enum, default_value_t = Output::Table)]
    output: Output,
}

pub async fn run(args: &Args) -> anyhow::Result<()> {
    let running = find(args.data_dir.clone()).await?;
    print!("{}", running.render(args.output));
    Ok(())
}

/// The `serve` that runs on a data folder, asked.
///
/// # Errors
/// When none does.
pub async fn find(data_dir: Option<PathBuf>) -> anyhow::Result<Running> {
    let path = data_dir.map_or_else(DataDir::default_path, Ok)?;
    let data = DataDir::at(path);
    let Some(running) = Running::load(&data)? else {
        bail!("no `switchboard serve` runs on {}", data.path().display());
    };
    let health = running.health().await.with_context(|| {
        format!(
            "`switchboard serve` on {} does not answer at {}; it was killed, or is starting",
            data.path().display(),
            running.local_url
        )
    })?;
    if health["status"] != "ok" {
        let parts = health["parts"].as_object().into_iter().flatten();
        let failing: Vec<_> = parts
            .filter(|(_, state)| *state != "ok")
            .map(|(name, state)| format!("{name}: {}", state.as_str().unwrap_or("unknown")))
            .collect();
        eprintln!("warning: not everything works ({})", failing.join("; "));
    }
    Ok(running)
}
