//! Opens a bundle: a directory with `manifest.toml`, graphs, `golden.json` and a model card. It is
//! the only artefact that passes from the trainer to the daemon.

pub mod golden;
mod sums;
#[cfg(all(test, feature = "sentence"))]
pub(crate) mod tests;

use std::path::{Path, PathBuf};

use crate::encode::{EncodeError, Graph, GraphFiles, Precision, Provider, Runtime};
#[cfg(feature = "corpus")]
pub(crate) use sums::check as check_sums;
pub use sums::seal;
#[cfg(feature = "train")]
pub(crate) use sums::{GENERATED, SUMS};

use golden::Goldens;

use crate::manifest::{EncoderEntry, EncoderKind, FurtherHead, Manifest, hex_sha256};
use crate::modality::Modality;
use crate::preprocess::{TextError, Tokenizer};

/// Reason why a bundle is refused; `expressd` then exits with code 4. Each message names the
/// remedy.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    #[error(
        "bundle {}: {file} cannot be read; name a bundle directory with --bundle",
        directory.display()
    )]
    Missing {
        directory: PathBuf,
        file: String,
        source: std::io::Error,
    },
    #[error(
        "bundle {}: {file} is generated on this machine; run `make build`, or in an installation \
         `expressd prepare --bundle {}`",
        directory.display(),
        directory.display()
    )]
    Unprepared { directory: PathBuf, file: String },
    #[error(
        "bundle {}: manifest.toml is not a manifest; export the bundle again",
        directory.display()
    )]
    BadManifest {
        directory: PathBuf,
        source: Box<toml::de::Error>,
    },
    #[error(
        "bundle {}: manifest.toml is inconsistent: {}; export the bundle again",
        directory.display(),
        faults.join("; ")
    )]
    Faults {
        directory: PathBuf,
        faults: Vec<String>,
    },
    #[error(
        "bundle {}: {file} is not the file that was exported (sha256 {found}, expected \
         {expected}); fetch or export the bundle again",
        directory.display()
    )]
    WrongHash {
        directory: PathBuf,
        file: String,
        found: String,
        expected: String,
    },
    #[error(
        "bundle {}: fingerprint is {found}, its own settings give {expected}: it was made for \
         another preprocessing; export it with this version's expressd-train",
        directory.display()
    )]
    WrongFingerprint {
        directory: PathBuf,
        found: String,
        expected: String,
    },
    #[error("bundle {}: {what}; this daemon cannot serve it", directory.display())]
    Unsupported { directory: PathBuf, what: String },
    #[error("bundle {}: a graph cannot be used", directory.display())]
    Graph {
        directory: PathBuf,
        source: EncodeError,
    },
    #[error("bundle {}: {file} is not a tokenizer; export the bundle again", directory.display())]
    BadTokenizer {
        directory: PathBuf,
        file: String,
        source: TextError,
    },
    #[error(
        "bundle {}: golden.json cannot be parsed; export the bundle again",
        directory.display()
    )]
    BadGolden {
        directory: PathBuf,
        source: serde_json::Error,
    },
    #[error(
        "bundle {}: self-test failed: {what} of golden case {case} is off by {difference:.2e} \
         (permitted {permitted:.0e}); try provider \"cpu\", or export the bundle again",
        directory.display()
    )]
    SelfTest {
        directory: PathBuf,
        case: usize,
        what: String,
        difference: f32,
        permitted: f32,
    },
}

/// An open bundle. [`Bundle::open`] has checked manifest and hashes, opened the graphs and replayed
/// the goldens.
#[derive(Debug)]
pub struct Bundle {
    /// Content of `manifest.toml`.
    pub manifest: Manifest,
    /// The encoders, in the order of the manifest.
    pub encoders: Vec<Encoder>,
    /// `None` if the manifest has no section `[text]`.
    pub tokenizer: Option<Tokenizer>,
    /// The primary head's graph. Its inputs are one embedding `[batch, dim]` for each name in the
    /// manifest's `head.inputs`, then the presence `[batch, inputs]`. The output that the manifest
    /// names is logits `[batch, labels]`. Further heads of the same file read its other outputs.
    pub head: Graph,
    /// The graphs of further heads with other files, one for each file.
    pub further: Vec<HeadGraph>,
}

/// A graph that only further heads read.
#[derive(Debug)]
pub struct HeadGraph {
    /// SHA-256 of the graph's file, by which the manifest's heads refer to it.
    pub sha256: String,
    pub graph: Graph,
}

/// One encoder of a bundle: its manifest entry and its graph.
#[derive(Debug)]
pub struct Encoder {
    /// The encoder's entry in the manifest.
    pub entry: EncoderEntry,
    /// The encoder's graph; a text encoder's may be released.
    pub graph: Graph,
}

impl Bundle {
    /// Opens the bundle in `directory`; checks hashes, fingerprint and shapes, but does not replay
    /// the goldens, which are returned. [`Bundle::open`] does both: the replay needs the
    /// recogniser.
    pub(crate) fn open_unverified(
        runtime: &Runtime,
        directory: &Path,
        provider: Provider,
        threads: usize,
    ) -> Result<(Bundle, Goldens), BundleError> {
        let at = || directory.to_owned();
        let read = |file: &str| {
            std::fs::read(directory.join(file)).map_err(|source| BundleError::Missing {
                directory: at(),
                file: file.to_owned(),
                source,
            })
        };
        // Every hash is checked before a file is parsed, so that a changed byte is reported as such
        // and never reaches ONNX Runtime.
        let manifest_file = read("manifest.toml")?;
        sums::check(directory, &["manifest.toml", "golden.json"])?;
        let text = String::from_utf8_lossy(&manifest_file).into_owned();
        let manifest: Manifest =
            toml::from_str(&text).map_err(|source| BundleError::BadManifest {
                directory: at(),
                source: Box::new(source),
            })?;
        let faults = manifest.faults();
        if !faults.is_empty() {
            return Err(BundleError::Faults {
                directory: at(),
                faults,
            });
        }
        let encoder_files = EncoderFiles::read(directory, &manifest)?;
        let head_file = checked(directory, &manifest.head.file, &manifest.head.sha256)?;
        let mut further_files: Vec<(&FurtherHead, Vec<u8>)> = Vec::new();
        for head in &manifest.further {
            let is_open = head.sha256 == manifest.head.sha256
                || further_files.iter().any(|(h, _)| h.sha256 == head.sha256);
            if !is_open {
                further_files.push((head, checked(directory, &head.file, &head.sha256)?));
            }
        }
        let expected = manifest.compute_fingerprint();
        if manifest.fingerprint != expected {
            return Err(BundleError::WrongFingerprint {
                directory: at(),
                found: manifest.fingerprint,
                expected,
            });
        }
        let (encoders, tokenizer) =
            encoder_files.open(runtime, directory, &manifest, provider, threads)?;
        let open = |name: &str, file: &[u8], inputs: usize| {
            open_head(runtime, directory, name, file, inputs, (provider, threads))
        };
        let head = open("head", &head_file, manifest.head.inputs.len())?;
        let further = further_files
            .iter()
            .map(|(entry, file)| {
                Ok(HeadGraph {
                    sha256: entry.sha256.clone(),
                    graph: open(&format!("head {}", entry.name), file, entry.inputs.len())?,
                })
            })
            .collect::<Result<_, BundleError>>()?;
        let bundle = Bundle {
            manifest,
            encoders,
            tokenizer,
            head,
            further,
        };
        let goldens = serde_json::from_slice(&read("golden.json")?).map_err(|source| {
            BundleError::BadGolden {
                directory: at(),
                source,
            }
        })?;
        Ok((bundle, goldens))
    }

    /// The provider in events: the CPU if any graph runs on it, else the GPU provider of the head.
    pub fn provider(&self) -> Provider {
        let mut graphs = self
            .encoders
            .iter()
            .map(|e| e.graph.provider())
            .chain([self.head.provider()])
            .chain(self.further.iter().map(|head| head.graph.provider()));
        graphs
            .find(|p| *p == Provider::Cpu)
            .unwrap_or(self.head.provider())
    }

    /// Names of the encoders that run in int8.
    pub fn int8_encoders(&self) -> impl Iterator<Item = &str> {
        self.encoders
            .iter()
            .filter(|e| e.graph.precision() == Precision::Int8)
            .map(|e| e.entry.name.as_str())
    }

    /// [`Precision::Int8`] if any encoder runs in int8, else [`Precision::Fp32`].
    pub fn precision(&self) -> Precision {
        if self.int8_encoders().next().is_some() {
            Precision::Int8
        } else {
            Precision::Fp32
        }
    }
}

/// Opens the graph of a head that takes the embeddings of `inputs` encoders.
///
/// # Errors
/// The graph cannot be opened, or does not take these inputs and the presence.
fn open_head(
    runtime: &Runtime,
    directory: &Path,
    name: &str,
    file: &[u8],
    inputs: usize,
    (provider, threads): (Provider, usize),
) -> Result<Graph, BundleError> {
    let graph = Graph::open(runtime, name, file, provider, threads).map_err(|source| {
        BundleError::Graph {
            directory: directory.to_owned(),
            source,
        }
    })?;
    if graph.input_count() == inputs + 1 {
        return Ok(graph);
    }
    Err(BundleError::Unsupported {
        directory: directory.to_owned(),
        what: format!(
            "{name} takes {} inputs, the manifest names {inputs} encoders and the presence",
            graph.input_count()
        ),
    })
}

/// Reads a file of the bundle and compares its SHA-256 with `expected`.
fn checked(directory: &Path, file: &str, expected: &str) -> Result<Vec<u8>, BundleError> {
    let at = || directory.to_owned();
    let bytes = std::fs::read(directory.join(file)).map_err(|source| BundleError::Missing {
        directory: at(),
        file: file.to_owned(),
        source,
    })?;
    let found = hex_sha256(&bytes);
    if found == expected {
        Ok(bytes)
    } else {
        Err(BundleError::WrongHash {
            directory: at(),
            file: file.to_owned(),
            found,
            expected: expected.to_owned(),
        })
    }
}

/// Reads the file of a released encoder's graph again and compares its hash with the manifest
/// entry's.
fn read_again(
    directory: &Path,
    entry: &EncoderEntry,
    precision: Precision,
) -> Result<Vec<u8>, EncodeError> {
    let (file, sha256) = match (&entry.int8, precision) {
        (Some(int8), Precision::Int8) => (&int8.file, &int8.sha256),
        _ => (&entry.file, &entry.sha256),
    };
    let path = directory.join(file);
    let bytes = std::fs::read(&path).map_err(|source| EncodeError::NoGraph {
        path: path.clone(),
        source,
    })?;
    let found = hex_sha256(&bytes);
    if found == *sha256 {
        return Ok(bytes);
    }
    Err(EncodeError::WrongHash {
        path,
        named_by: directory.join("manifest.toml"),
        found: found.into(),
        expected: sha256.as_str().into(),
    })
}

/// The files of a manifest's encoders, read and checked against their hashes. Their graphs are not
/// open yet.
pub(crate) struct EncoderFiles {
    /// (fp32 graph, int8 graph if the manifest names one) for each encoder, in the manifest's
    /// order.
    graphs: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    /// `None` if the manifest has no section `[text]`.
    tokenizer: Option<Vec<u8>>,
}

impl EncoderFiles {
    /// Reads the files of the manifest's encoders from the bundle's folder. Fails if a file is
    /// missing or its hash differs.
    pub fn read(directory: &Path, manifest: &Manifest) -> Result<EncoderFiles, BundleError> {
        let graphs = manifest.encoders.iter().map(|e| {
            let int8 = e
                .int8
                .as_ref()
                .map(|int8| checked(directory, &int8.file, &int8.sha256))
                .transpose()?;
            Ok((checked(directory, &e.file, &e.sha256)?, int8))
        });
        let graphs = graphs.collect::<Result<Vec<_>, _>>()?;
        let tokenizer = manifest
            .text
            .as_ref()
            .map(|t| checked(directory, &t.tokenizer, &t.sha256))
            .transpose()?;
        Ok(EncoderFiles { graphs, tokenizer })
    }

    /// Drops the int8 graphs, so that the fp32 graphs run on every provider.
    #[cfg(feature = "corpus")]
    pub fn fp32(mut self) -> EncoderFiles {
        self.graphs.iter_mut().for_each(|(_, int8)| *int8 = None);
        self
    }

    /// Opens the graph of every encoder, and the tokenizer if the manifest has a section `[text]`.
    /// Fails if a graph cannot be opened or its inputs do not fit the manifest.
    pub fn open(
        self,
        runtime: &Runtime,
        directory: &Path,
        manifest: &Manifest,
        provider: Provider,
        threads: usize,
    ) -> Result<(Vec<Encoder>, Option<Tokenizer>), BundleError> {
        let at = || directory.to_owned();
        let mut encoders = Vec::new();
        for (entry, (fp32, int8)) in manifest.encoders.iter().zip(&self.graphs) {
            if let Some(what) = unsupported(entry, manifest) {
                return Err(BundleError::Unsupported {
                    directory: at(),
                    what,
                });
            }
            let files = GraphFiles {
                fp32,
                int8: int8.as_deref(),
            };
            let graph = Graph::open_for(runtime, &entry.name, files, provider, threads).map_err(
                |source| BundleError::Graph {
                    directory: at(),
                    source,
                },
            )?;
            let graph = if entry.modality == Modality::Text {
                let (precision, entry) = (graph.precision(), entry.clone());
                let folder = directory.to_owned();
                let read = move || read_again(&folder, &entry, precision);
                graph.reopened_by(runtime, threads, Box::new(read))
            } else {
                graph
            };
            let inputs = if entry.kind == EncoderKind::Utterance {
                2
            } else {
                1
            };
            if graph.input_count() != inputs {
                let what = format!(
                    "encoder {} takes {} inputs, its kind has {inputs}",
                    entry.name,
                    graph.input_count()
                );
                return Err(BundleError::Unsupported {
                    directory: at(),
                    what,
                });
            }
            encoders.push(Encoder {
                entry: entry.clone(),
                graph,
            });
        }
        let tokenizer = match (&manifest.text, self.tokenizer) {
            (Some(text), Some(bytes)) => {
                let bad = |source| BundleError::BadTokenizer {
                    directory: at(),
                    file: text.tokenizer.clone(),
                    source,
                };
                Some(Tokenizer::from_bytes(&bytes, text.max_tokens).map_err(bad)?)
            }
            _ => None,
        };
        Ok((encoders, tokenizer))
    }
}

/// Why the daemon cannot run this encoder: its input shape or its kind does not fit its modality.
/// `None` if it can.
fn unsupported(entry: &EncoderEntry, manifest: &Manifest) -> Option<String> {
    let expects = |shape: &[usize]| {
        format!(
            "encoder {} has input {:?}, its preprocessing gives {shape:?}",
            entry.name, entry.input
        )
    };
    let fits = |shape: &[usize]| {
        entry.input.len() == shape.len()
            && entry
                .input
                .iter()
                .zip(shape)
                .all(|(a, b)| *b == 0 || a == b)
    };
    match (entry.modality, entry.kind) {
        (Modality::Text, EncoderKind::Utterance) => (!fits(&[0])).then(|| expects(&[0])),
        (Modality::Face, EncoderKind::Frame) => {
            let face = manifest.face.as_ref()?;
            let shape = [face.channels, face.size, face.size];
            (!fits(&shape)).then(|| expects(&shape))
        }
        (Modality::Face, EncoderKind::Window) => {
            let face = manifest.face.as_ref()?;
            let shape = [0, face.channels, face.size, face.size];
            (!fits(&shape)).then(|| expects(&shape))
        }
        (Modality::Voice, EncoderKind::Window) => {
            let shape = [1, manifest.audio.as_ref()?.mels, 0];
            (!fits(&shape)).then(|| expects(&shape))
        }
        (modality, kind) => Some(format!(
            "encoder {} is of kind {kind:?}, which does not exist for {}",
            entry.name,
            modality.name()
        )),
    }
}
