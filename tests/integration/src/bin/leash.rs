//! The leash of the stories: starts a program that ends with its parent (see `process`).

fn main() {
    muster_integration_tests::process::become_program_if_leash();
    eprintln!("this program is only started by the stories' harness");
    std::process::exit(2);
}
