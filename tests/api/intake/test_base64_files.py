from api.intake import base64_files
from settings import MIB, Settings
from tests.support.fake_runner import base64_of


async def test_a_file_of_exactly_the_limit_is_taken():
    text = base64_of(bytes(MIB))
    assert len(await base64_files.decode(text, "image", Settings(max_file_mib=1))) == MIB
