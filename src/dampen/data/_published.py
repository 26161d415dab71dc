"""The sets that their authors publish as four IDX files: where, and what they must hash to."""

from dataclasses import dataclass

from dampen.data.images._idx_folder import FILES


@dataclass(frozen=True)
class Published:
    """One published set.

    - `address`: of the folder that holds the four files.
    - `md5`: of each `.gz` file, by the name in `FILES`.
    """

    address: str
    md5: dict[str, str]
    classes: tuple[str, ...]


PUBLISHED = {
    "fashion-mnist": Published(
        address="http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        md5=dict(
            zip(
                FILES,
                (
                    "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
                    "25c81989df183df01b3e8a0aad5dffbe",
                    "bef4ecab320f06d8554ea6380940ec79",
                    "bb300cfdad3c16e7a12a480ee83cd310",
                ),
                strict=True,
            )
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
    ),
    "mnist": Published(
        address="https://ossci-datasets.s3.amazonaws.com/mnist/",
        md5=dict(
            zip(
                FILES,
                (
                    "f68b3c2dcbeaaa9fbdd348bbdeb94873",
                    "d53e105ee54ea40749a09fcbcd1e9432",
                    "9fb629c4189551a2d022fa330f9573f3",
                    "ec29112dd5afa0611ce80d1b7f02629c",
                ),
                strict=True,
            )
        ),
        classes=tuple("0123456789"),
    ),
}
