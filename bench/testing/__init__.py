"""What hosts and stores have to do, as tests for those who write their own. Needs pytest beside numpy and onnxruntime.

    from ortnas.bench.testing.hosts import HostSuite

    @pytest.fixture(scope="module")
    def my_host():
        with MyHost() as opened:
            yield opened

    class TestMyHost(HostSuite):
        @pytest.fixture
        def host(self, my_host):
            return my_host

Workers and bundles travel without this folder.
"""

import pytest

pytest.register_assert_rewrite(f"{__name__}.hosts", f"{__name__}.stores")
