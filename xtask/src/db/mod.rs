//! `cargo xtask db`: the development Postgres, and the SQL cache that lets a plain build do without one.
//!
//! The one thing to know: every crate with checked queries has a database of its own (kit's migrations, then its own),
//! named by the variable in its `sqlx.toml`, and its described queries stand in its `.sqlx` folder.

mod book;
mod cache;
mod server;

use anyhow::Result;
use book::Book;
use muster_integration_tests::parts::postgres::Durability;

use crate::setup::postgres;

/// What can be done.
#[derive(clap::Subcommand)]
pub enum Command {
    /// Start the development Postgres, or say that it runs; it stays up
    Start,
    /// Stop the development Postgres; its data stay
    Stop,
    /// Print the lines that export the database URLs: eval "$(cargo xtask db env)"
    Env,
    /// Drop, make and migrate the databases, without writing the SQL cache
    Reset {
        /// kit, registry, scheduler, rollout, policy; all of them when none is named
        books: Vec<Book>,
    },
    /// Reset the databases and write the SQL cache of the crates
    Prepare {
        /// kit, registry, scheduler, rollout, policy; all of them when none is named
        books: Vec<Book>,
    },
    /// Verify that the checked-in SQL cache is what the queries and migrations say, on a Postgres of its own
    Check,
}

/// Runs one of them.
///
/// # Errors
/// Postgres can't be started, a migration fails, a crate doesn't compile, or the checked-in cache is stale.
pub async fn run(command: Command) -> Result<()> {
    match command {
        Command::Start => {
            let server = server::start().await?;
            println!("Postgres listens on 127.0.0.1:{}", server.port);
            Ok(())
        }
        Command::Stop => server::stop().await,
        Command::Env => {
            let server = server::start().await?;
            for book in Book::ALL {
                println!("export {}='{}'", book.url_variable(), server.url(book.database()));
            }
            println!("export MUSTER_TEST_DATABASE_URL='{}'", server.url("postgres"));
            Ok(())
        }
        Command::Reset { books } => {
            let server = server::start().await?;
            for book in chosen(books) {
                book.reset(&server).await?;
            }
            Ok(())
        }
        Command::Prepare { books } => {
            let server = server::start().await?;
            for book in chosen(books) {
                if book.reset(&server).await? {
                    cache::write(book, &server).await?;
                }
            }
            Ok(())
        }
        Command::Check => {
            let postgres = postgres::start(Durability::None).await?;
            let mut stale = Vec::new();
            for book in Book::ALL {
                if book.reset(postgres.server()).await? {
                    stale.extend(cache::differences(book, postgres.server()).await?);
                }
            }
            if stale.is_empty() {
                println!("the SQL cache is current");
                return Ok(());
            }
            anyhow::bail!("the SQL cache is stale; `cargo xtask db prepare` writes it anew:\n  {}", stale.join("\n  "))
        }
    }
}

fn chosen(books: Vec<Book>) -> Vec<Book> {
    if books.is_empty() { Book::ALL.to_vec() } else { books }
}
