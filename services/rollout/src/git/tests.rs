//! Against real repositories on disk: reading, model commits, reverts, and everything that goes wrong with them.

use super::testing::Repository;
use super::*;
use crate::domain::spec::GitReference;

const VERSION: &str = "# written by training\nversion: v2   # the tag\ndigest: sha256:aaaa\nnotes: keep\n";
const URI: &str = "s3://models/detector/v2/model.onnx\n";
const KUSTOMIZATION: &str = "apiVersion: kustomize.config.k8s.io/v1alpha1
kind: Component
configMapGenerator:
  - name: detector-model
    files: [version.yaml, artifact-uri.txt]
images:
  # the server
  - name: registry.example.com/vision/detector
    newTag: v2 # moved by releases
  - name: registry.example.com/vision/sidecar
    newTag: \"1.0\"
";

fn main() -> GitReference {
    GitReference::Branch("main".into())
}

fn change(version: &str, digest: &str) -> ModelChange {
    ModelChange {
        model: "detector".into(),
        path: "models/detector".into(),
        version: version.into(),
        digest: digest.into(),
        uri: format!("s3://models/detector/{version}/model.onnx"),
        image: Some(format!("registry.example.com/vision/detector:{version}")),
        event: "pipeline/42".into(),
    }
}

async fn model_repository() -> Repository {
    Repository::with(&[
        ("models/detector/version.yaml", VERSION),
        ("models/detector/artifact-uri.txt", URI),
        ("models/detector/kustomization.yaml", KUSTOMIZATION),
        ("README.md", "hello\n"),
    ])
    .await
}

async fn write(mirror: &Mirror, change: &ModelChange) -> Result<Written, GitError> {
    ModelCommit { mirror, branch: "main", change }.write().await
}

#[tokio::test]
async fn a_commit_is_found_and_read_through_a_mirror() {
    let repository = model_repository().await;
    let (_folder, mirror) = repository.mirror().await;
    let first = mirror.fetch(&main(), None).await.unwrap();
    assert_eq!(first.commit.title, "first");
    assert_eq!(mirror.read(&first.commit.id, "models/detector/artifact-uri.txt", 100).await.unwrap(), URI.as_bytes());
    let tree = mirror.tree(&first.commit.id).await.unwrap();
    assert!(tree.iter().any(|entry| entry.path == "models/detector" && entry.kind == EntryKind::Folder));
    let file = tree.iter().find(|entry| entry.path == "README.md").unwrap();
    assert_eq!(mirror.objects(&[&file.object, &file.object], 100).await.unwrap(), [b"hello\n", b"hello\n"]);
    let second = repository.commit("second", &[("README.md", "changed\n")]).await;
    let fetched = mirror.fetch(&main(), Some(&first.commit.id)).await.unwrap();
    assert_eq!((fetched.commit.id.as_str(), fetched.rewritten), (second.as_str(), false));
    assert_eq!(mirror.resolve("main").await.unwrap().id, second);
    assert_eq!(mirror.resolve(&first.commit.id).await.unwrap().title, "first");
    assert_eq!(mirror.fetch(&GitReference::Commit(second.clone()), None).await.unwrap().commit.id, second);
    let touched = mirror.log(&first.commit.id, &second, &["models".to_owned()]).await.unwrap();
    assert!(touched.is_empty(), "the second commit leaves models alone");
    assert_eq!(mirror.log(&first.commit.id, &second, &[String::new()]).await.unwrap().len(), 1);
}

#[tokio::test]
async fn the_operators_configuration_leads_to_a_mirror() {
    let repository = model_repository().await;
    let folder = tempfile::TempDir::new().unwrap();
    let config_file = folder.path().join("gitconfig");
    let base = repository.url().replace("bare.git", "");
    std::fs::write(&config_file, format!("[url \"{base}\"]\n\tinsteadOf = https://git.example.com/ml/\n")).unwrap();
    let git = Git { config_file: Some(config_file), ..Git::default() };
    let mirror = Mirror::open(git, folder.path().join("mirror"), "https://git.example.com/ml/bare.git").await.unwrap();
    assert_eq!(mirror.fetch(&main(), None).await.unwrap().commit.title, "first");
}

#[tokio::test]
async fn what_is_not_there_is_named() {
    let repository = model_repository().await;
    let (_folder, mirror) = repository.mirror().await;
    let head = mirror.fetch(&main(), None).await.unwrap().commit.id;
    assert_eq!(
        mirror.fetch(&GitReference::Branch("gone".into()), None).await,
        Err(GitError::NoSuchReference("branch gone".into()))
    );
    assert_eq!(
        mirror.read(&head, "none.txt", 10).await,
        Err(GitError::NoSuchPath { path: "none.txt".into(), commit: head.clone() })
    );
    assert_eq!(mirror.read(&head, "README.md", 3).await, Err(GitError::TooLarge { what: "README.md".into(), limit: 3 }));
    for reference in ["", "--upload-pack=x", "main~1", "none", "a b"] {
        assert!(matches!(mirror.resolve(reference).await, Err(GitError::NoSuchReference(_))), "{reference}");
    }
    let unknown = "0123456789012345678901234567890123456789";
    assert!(matches!(mirror.fetch(&GitReference::Commit(unknown.into()), None).await, Err(GitError::NoSuchReference(_))));
}

#[tokio::test]
async fn a_repository_that_vanishes_is_unreachable_and_what_was_fetched_stays() {
    let repository = model_repository().await;
    let (_folder, mirror) = repository.mirror().await;
    let head = mirror.fetch(&main(), None).await.unwrap().commit.id;
    std::fs::remove_dir_all(repository.bare()).unwrap();
    assert!(matches!(mirror.fetch(&main(), Some(&head)).await, Err(GitError::Unreachable(_))));
    assert!(matches!(write(&mirror, &change("v3", "sha256:bbbb")).await, Err(GitError::Unreachable(_))));
    assert_eq!(mirror.read(&head, "README.md", 100).await.unwrap(), b"hello\n");
}

#[tokio::test]
async fn rewritten_history_is_said_and_the_old_commit_stays_readable() {
    let repository = model_repository().await;
    let (_folder, mirror) = repository.mirror().await;
    let old = repository.commit("second", &[("README.md", "second\n")]).await;
    mirror.fetch(&main(), None).await.unwrap();
    let new = repository.rewrite(&[("README.md", "another\n")]).await;
    let fetched = mirror.fetch(&main(), Some(&old)).await.unwrap();
    assert_eq!((fetched.commit.id.as_str(), fetched.rewritten), (new.as_str(), true));
    assert_eq!(mirror.read(&old, "README.md", 100).await.unwrap(), b"second\n");
}

#[tokio::test]
async fn a_slow_git_is_given_up() {
    let repository = model_repository().await;
    let (_folder, mut mirror) = repository.mirror().await;
    mirror.git.timeout = std::time::Duration::from_nanos(1);
    assert_eq!(mirror.fetch(&main(), None).await, Err(GitError::Timeout("fetch".into())));
}

#[tokio::test]
async fn a_new_version_changes_three_values_and_no_other_byte() {
    let repository = model_repository().await;
    let (_folder, mirror) = repository.mirror().await;
    let written = write(&mirror, &change("v3", "sha256:bbbb")).await.unwrap();
    assert!(matches!(written, Written::Pushed(_)));
    assert_eq!(
        repository.show("models/detector/version.yaml").await,
        VERSION.replace("version: v2", "version: v3").replace("sha256:aaaa", "sha256:bbbb")
    );
    assert_eq!(repository.show("models/detector/artifact-uri.txt").await, URI.replace("v2", "v3"));
    assert_eq!(repository.show("models/detector/kustomization.yaml").await, KUSTOMIZATION.replace("newTag: v2", "newTag: v3"));
    let commit = mirror.commit(written.commit()).await.unwrap();
    assert_eq!(
        commit.message,
        "detector v3\n\nTraining completed: s3://models/detector/v3/model.onnx\n\nMuster-Model: detector/v3\nMuster-Digest: sha256:bbbb\nMuster-Event: pipeline/42"
    );
}

#[tokio::test]
async fn the_same_version_written_again_is_the_same_commit() {
    let repository = model_repository().await;
    let (_folder, mirror) = repository.mirror().await;
    let first = write(&mirror, &change("v3", "sha256:bbbb")).await.unwrap();
    // Another replica, which crashed between push and record, or never heard of it.
    let (_other_folder, other) = repository.mirror().await;
    let again = write(&other, &change("v3", "sha256:bbbb")).await.unwrap();
    assert_eq!(again, Written::Adopted(first.commit().to_owned()));
    assert_eq!(repository.log().await, ["detector v3", "first"]);
}

#[tokio::test]
async fn a_squashed_commit_without_trailers_is_found_by_its_version_file() {
    let repository = model_repository().await;
    let squashed =
        repository.commit("All of last week (#7)", &[("models/detector/version.yaml", &VERSION.replace("aaaa", "bbbb"))]).await;
    let (_folder, mirror) = repository.mirror().await;
    assert_eq!(write(&mirror, &change("v3", "sha256:bbbb")).await.unwrap(), Written::Adopted(squashed));
}

#[tokio::test]
async fn two_writers_at_once_make_one_commit_a_version() {
    let repository = model_repository().await;
    let (_a, first) = repository.mirror().await;
    let (_b, second) = repository.mirror().await;
    let (v3, v4) = (change("v3", "sha256:bbbb"), change("v4", "sha256:cccc"));
    let (a, b, c) = tokio::join!(write(&first, &v3), write(&second, &v3), async {
        let (_folder, third) = repository.mirror().await;
        write(&third, &v4).await
    });
    assert_eq!(a.unwrap().commit(), b.unwrap().commit());
    c.unwrap();
    let mut log = repository.log().await;
    log.sort();
    assert_eq!(log, ["detector v3", "detector v4", "first"]);
}

#[tokio::test]
async fn a_model_without_its_files_is_named() {
    let repository = Repository::with(&[("README.md", "hello\n")]).await;
    let (_folder, mirror) = repository.mirror().await;
    let error = write(&mirror, &change("v3", "sha256:bbbb")).await.unwrap_err();
    assert!(matches!(&error, GitError::NoSuchPath { path, .. } if path == "models/detector/version.yaml"), "{error}");
    repository.commit("odd", &[("models/detector/version.yaml", "{version: v2, digest: x}\n")]).await;
    let error = write(&mirror, &change("v3", "sha256:bbbb")).await.unwrap_err();
    assert!(matches!(&error, GitError::Unwritable { path, .. } if path == "models/detector/version.yaml"), "{error}");
}

#[tokio::test]
async fn a_repository_that_refuses_pushes_says_so_in_its_own_words() {
    let repository = model_repository().await;
    let (_folder, mirror) = repository.mirror().await;
    repository.run(&repository.bare(), &["config", "receive.hideRefs", "refs/heads"]).await;
    let error = write(&mirror, &change("v3", "sha256:bbbb")).await.unwrap_err();
    let GitError::PushRefused(words) = &error else { panic!("{error}") };
    assert!(words.contains("hidden ref"), "{words}");
}

#[tokio::test]
async fn a_revert_takes_back_one_commit_and_leaves_the_later_ones() {
    let repository = model_repository().await;
    let (_folder, mirror) = repository.mirror().await;
    let bad = write(&mirror, &change("v3", "sha256:bbbb")).await.unwrap().commit().to_owned();
    repository.pull().await;
    repository.commit("unrelated", &[("README.md", "later\n")]).await;
    let reverted = mirror.revert("main", std::slice::from_ref(&bad), "the gate failed").await.unwrap();
    assert!(matches!(reverted, Reverted::Pushed(_)));
    assert_eq!(repository.show("models/detector/version.yaml").await, VERSION);
    assert_eq!(repository.show("README.md").await, "later\n");
    assert_eq!(repository.log().await, ["Revert \"detector v3\"", "unrelated", "detector v3", "first"]);
    let again = mirror.revert("main", &[bad], "the gate failed").await.unwrap();
    assert!(matches!(again, Reverted::Adopted(_)), "a revert is written once");
    assert_eq!(repository.log().await.len(), 4);
}

#[tokio::test]
async fn a_reverted_version_is_not_taken_for_absent() {
    let repository = model_repository().await;
    let (_folder, mirror) = repository.mirror().await;
    let bad = write(&mirror, &change("v3", "sha256:bbbb")).await.unwrap();
    mirror.revert("main", &[bad.commit().to_owned()], "the gate failed").await.unwrap();
    let again = write(&mirror, &change("v3", "sha256:bbbb")).await.unwrap();
    assert_eq!(again, Written::Adopted(bad.commit().to_owned()), "a late delivery does not ship it again");
}

#[tokio::test]
async fn a_revert_that_conflicts_is_blocked_and_leaves_the_branch_alone() {
    let repository = model_repository().await;
    let (_folder, mirror) = repository.mirror().await;
    let bad = write(&mirror, &change("v3", "sha256:bbbb")).await.unwrap().commit().to_owned();
    repository.pull().await;
    repository.commit("by hand", &[("models/detector/artifact-uri.txt", "s3://elsewhere\n")]).await;
    let error = mirror.revert("main", &[bad], "the gate failed").await.unwrap_err();
    assert!(matches!(error, GitError::Conflict(_)), "{error}");
    assert_eq!(repository.log().await, ["by hand", "detector v3", "first"]);
    let trees = repository.run(mirror.directory(), &["worktree", "list"]).await;
    assert_eq!(trees.lines().count(), 1, "no working tree is left behind");
}

#[test]
fn an_image_is_found_by_name_or_by_being_the_only_one() {
    let rewrite =
        |file: &str, image: &str| rewrite_image_tag(file.as_bytes(), image).map(|bytes| String::from_utf8(bytes).unwrap());
    assert_eq!(
        rewrite(KUSTOMIZATION, "registry.example.com/vision/sidecar:2.0").unwrap(),
        KUSTOMIZATION.replace("\"1.0\"", "\"2.0\"")
    );
    assert!(matches!(rewrite(KUSTOMIZATION, "v3"), Err(RewriteError::Image(_))), "two images, no name");
    assert!(matches!(rewrite(KUSTOMIZATION, "example.com/other:v3"), Err(RewriteError::Image(_))));
    let one = "images:\n- newTag: v2\n  name: a.example.com:5000/b\nkind: Component\n";
    assert_eq!(rewrite(one, "v3").unwrap(), one.replace("v2", "v3"));
    assert_eq!(rewrite(one, "a.example.com:5000/b:v3").unwrap(), one.replace("v2", "v3"));
    assert_eq!(rewrite(one, "10").unwrap(), one.replace("v2", "\"10\""), "a number is not a tag unless it is quoted");
}

#[test]
fn values_that_would_break_the_file_are_refused() {
    for value in ["", "a\nb", "a\"b", "a'b"] {
        assert!(matches!(rewrite_version(VERSION.as_bytes(), value, "x"), Err(RewriteError::Value(_))), "{value:?}");
        assert!(matches!(rewrite_artifact_uri(URI.as_bytes(), value), Err(RewriteError::Value(_))), "{value:?}");
    }
    assert_eq!(rewrite_version(b"version: v1\n", "v2", "x"), Err(RewriteError::Key("digest")));
    assert_eq!(rewrite_version(b"version: v1\nversion: v1\ndigest: x\n", "v2", "y"), Err(RewriteError::Key("version")));
    assert_eq!(rewrite_version(&[0xff], "v2", "y"), Err(RewriteError::NotText));
    assert_eq!(rewrite_artifact_uri(b"s3://old\r\n", "s3://new").unwrap(), b"s3://new\r\n");
    assert_eq!(
        rewrite_version(b"version: 1.0\r\ndigest: 'x'\r\n", "true", "sha256:y").unwrap(),
        b"version: \"true\"\r\ndigest: 'sha256:y'\r\n"
    );
}
