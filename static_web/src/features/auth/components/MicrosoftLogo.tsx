export function MicrosoftLogo() {
  return (
    <svg width="16" height="16" viewBox="0 0 21 21" aria-hidden="true">
      <rect x="0" y="0" width="10" height="10" fill="#f35325" />
      <rect x="11" y="0" width="10" height="10" fill="#81bc06" />
      <rect x="0" y="11" width="10" height="10" fill="#05a6f0" />
      <rect x="11" y="11" width="10" height="10" fill="#ffba08" />
    </svg>
  );
}
