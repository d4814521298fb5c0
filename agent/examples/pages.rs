//! Writes what packages install beside the program, made from its command line: manual pages
//! (`man1/*.1`) and completions for bash, zsh and fish.
//!
//! ```sh
//! cargo run -p remora --example pages -- FOLDER
//! ```

use std::{env, fs, io, path::Path};

use clap::CommandFactory as _;
use clap_complete::Shell;
use remora::cli::Cli;

fn main() -> io::Result<()> {
    let Some(folder) = env::args_os().nth(1) else {
        return Err(io::Error::other("found no argument, expected the folder to write to"));
    };
    let folder = Path::new(&folder);
    let pages = folder.join("man1");
    fs::create_dir_all(&pages)?;
    clap_mangen::generate_to(Cli::command(), &pages)?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut Cli::command(), "remora", folder)?;
    }
    Ok(())
}
